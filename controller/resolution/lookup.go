package resolution

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/resolve"
)

const (
	// A registry that did not answer is asked again after 5 s, doubling to 5 min; one
	// that said no after 30 s, doubling to 30 min: somebody may push the image or grant
	// the right meanwhile.
	inconclusiveFirst, inconclusiveLast = 5 * time.Second, 5 * time.Minute
	refusedFirst, refusedLast           = 30 * time.Second, 30 * time.Minute
)

// Resolver asks registries.
type Resolver interface {
	Digest(context.Context, imageref.Reference, keychain.Keychain) (digest.Digest, error)
	Resolve(context.Context, imageref.Reference, keychain.Keychain) (resolve.Image, error)
}

// Prober checks whether nodes of some platforms could pull an image, and gives it. The
// error is an *resolve.Error where the image itself was not found.
type Prober interface {
	Probe(ctx context.Context, ref imageref.Reference, platforms []string, keys keychain.Keychain) (Probed, error)
}

// Probed is an image with what was found for each platform that was asked for.
type Probed struct {
	Image resolve.Image
	Found map[string]v1alpha1.ImageCheck // without time
	// RetryAfter is how long the registry asks to wait.
	RetryAfter time.Duration
}

// Contents records what digests consist of.
type Contents interface {
	Keep(context.Context, resolve.Image) error
	Knows(imageref.Reference, digest.Digest) bool
}

// Secrets reads pull secrets.
type Secrets interface {
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Looker looks keys up. All fields are required.
type Looker struct {
	Table    *Table
	Resolver Resolver
	Prober   Prober
	Contents Contents
	Secrets  Secrets
	Clock    clock.PassiveClock
	// Changed is told of the owners whose status may have changed.
	Changed func(wish.Owner)
	// Counted is told of each look-up's outcome.
	Counted func(v1alpha1.Verdict)
}

// Sync looks a key up if that was asked for, and says when to try again.
func (l *Looker) Sync(ctx context.Context, key Key) (time.Duration, error) {
	q, wanted := l.Table.open(key)
	if !wanted {
		return 0, nil
	}
	now := l.Clock.Now()
	if wait := q.notBefore.Sub(now); wait > 0 {
		return wait, nil
	}
	secrets, err := l.secrets(ctx, key)
	if err == nil {
		var found answer
		found, err = l.look(ctx, key.Ref, q, secrets.chain)
		if err == nil {
			return l.accept(ctx, key, q, found), nil
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return l.refuse(ctx, key, q, secrets, err)
}

// accept notes what a look-up found, and says when to try again: 0 for an image that all can
// pull for whom it was looked up.
func (l *Looker) accept(ctx context.Context, key Key, q question, found answer) time.Duration {
	now := l.Clock.Now()
	found.time = metav1.NewTime(now).Rfc3339Copy()
	worst, failures, owners := l.Table.accept(key, q, found, now.Add(found.retryAfter))
	l.Counted(worst.Verdict)
	l.tell(owners)
	if worst.Verdict == v1alpha1.VerdictPullable {
		return 0
	}
	klog.FromContext(ctx).V(1).Info("Image not found pullable", "image", key.Ref, "digest", found.digest, "namespace", key.Namespace, "reason", worst.Reason)
	return retry(worst.Verdict, failures, found.retryAfter)
}

// refuse notes why a look-up failed, and says when to try again.
func (l *Looker) refuse(ctx context.Context, key Key, q question, secrets pullSecrets, err error) (time.Duration, error) {
	now := l.Clock.Now()
	// What is not the registry's answer is this controller's trouble with the API server.
	check := v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictInconclusive, Reason: v1alpha1.ReasonInternalError, Message: fmt.Sprint(err)}
	retryAfter := time.Duration(0)
	refusal, answered := errors.AsType[*resolve.Error](err)
	if answered {
		check, retryAfter = refusal.Check(), refusal.RetryAfter
		check.Message = strings.Join(append([]string{check.Message}, secrets.troubles...), "; ")
	}
	l.Counted(check.Verdict)
	check.Time = metav1.NewTime(now).Rfc3339Copy()
	failures, owners := l.Table.refuse(key, q.asked, check, now.Add(retryAfter))
	l.tell(owners)
	if !answered {
		return 0, err
	}
	klog.FromContext(ctx).V(1).Info("Image not found pullable", "image", key.Ref, "namespace", key.Namespace, "reason", check.Reason, "err", err)
	return retry(check.Verdict, failures, retryAfter), nil
}

func (l *Looker) tell(owners []wish.Owner) {
	for _, o := range owners {
		l.Changed(o)
	}
}

// question is a look-up that begins.
type question struct {
	known  digest.Digest // what the reference stands for now, "" while unknown
	moving bool          // the tag itself is asked for, not only the right to the digest
	asked  int
	// needs are the platforms to check; lacking those of them that the known digest was not
	// found pullable for.
	needs, lacking []string
	// lenient says that somebody takes a digest that cannot be pulled, or is not checked.
	lenient bool
	// notBefore is until when the registry wants to be left alone.
	notBefore time.Time
}

// answer is what a look-up found.
type answer struct {
	digest     digest.Digest
	found      map[string]v1alpha1.ImageCheck // by platform
	retryAfter time.Duration
	time       metav1.Time
}

// since dates what was found: back to when the same was known before.
func (a *answer) since(at target, last *v1alpha1.ImageCheck) {
	for platform, check := range a.found {
		before, ok := at.found[platform]
		switch {
		case ok && before.Verdict == check.Verdict:
			check.Time = before.Time
		case last != nil && last.Verdict == check.Verdict:
			check.Time = last.Time
		default:
			check.Time = a.time
		}
		a.found[platform] = check
	}
}

// look gives the digest that the registry has, with its content recorded and its platforms
// checked. Where the digest did not move and was checked one small request is enough. Who
// only has to show the right to an image that the fleet has asks for its digest: that must
// not move the tag for the others.
func (l *Looker) look(ctx context.Context, ref imageref.Reference, q question, chain keychain.Keychain) (answer, error) {
	if q.known != "" && !q.moving {
		ref = ref.WithDigest(q.known)
	}
	needs := q.needs
	if q.known != "" && l.Contents.Knows(ref, q.known) {
		now, err := l.Resolver.Digest(ctx, ref, chain)
		if err != nil {
			return answer{}, err
		}
		if now == q.known && len(q.lacking) == 0 {
			return answer{digest: now}, nil
		}
		if now == q.known {
			needs = q.lacking
		}
	}
	found, err := l.read(ctx, ref, needs, chain)
	if refusal, ok := errors.AsType[*resolve.Error](err); ok && q.lenient && ref.Digest() == "" && refusal.Verdict == v1alpha1.VerdictNotPullable {
		if d, derr := l.Resolver.Digest(ctx, ref, chain); derr == nil {
			return answer{digest: d, found: forAll(needs, refusal.Check())}, nil
		}
	}
	return found, err
}

// read gives all of an image, checked for platforms.
func (l *Looker) read(ctx context.Context, ref imageref.Reference, needs []string, chain keychain.Keychain) (answer, error) {
	var p Probed
	var err error
	if len(needs) > 0 {
		p, err = l.Prober.Probe(ctx, ref, needs, chain)
	} else {
		p.Image, err = l.Resolver.Resolve(ctx, ref, chain)
	}
	if err != nil {
		return answer{}, err
	}
	return answer{digest: p.Image.Digest, found: p.Found, retryAfter: p.RetryAfter}, l.Contents.Keep(ctx, p.Image)
}

// pullSecrets are what the pull secrets of a key give.
type pullSecrets struct {
	chain    keychain.Keychain
	troubles []string // for users
}

// secrets reads the pull secrets of a key. As for pods, a Secret that is missing or broken
// is passed over: the image may be pullable without it.
func (l *Looker) secrets(ctx context.Context, key Key) (pullSecrets, error) {
	var found []corev1.Secret
	var p pullSecrets
	for name := range strings.SplitSeq(key.Secrets, ",") {
		if name == "" {
			continue
		}
		s, err := l.Secrets.Secret(ctx, key.Namespace, name)
		switch {
		case apierrors.IsNotFound(err):
			p.troubles = append(p.troubles, fmt.Sprintf("pull secret %s/%s does not exist", key.Namespace, name))
		case err != nil:
			return p, fmt.Errorf("reading pull secret %s/%s: %w", key.Namespace, name, err)
		default:
			found = append(found, *s)
		}
	}
	var err error
	if p.chain, err = keychain.Parse(found...); err != nil {
		p.troubles = append(p.troubles, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return p, nil
}

func retry(verdict v1alpha1.Verdict, failures int, atLeast time.Duration) time.Duration {
	first, last := inconclusiveFirst, inconclusiveLast
	if verdict == v1alpha1.VerdictNotPullable {
		first, last = refusedFirst, refusedLast
	}
	d := last
	if failures <= 10 {
		d = min(last, first<<max(failures-1, 0))
	}
	return max(d+rand.N(d/4+1), atLeast)
}

// open begins a look-up, if anybody still wants to know.
func (t *Table) open(key Key) (q question, wanted bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.keys[key]
	if !ok {
		return question{}, false
	}
	at := t.targets[key.Ref]
	q = question{known: at.digest, asked: e.asked, notBefore: e.notBefore}
	q.needs, q.lenient = t.asked(e, key.Ref)
	q.lacking = at.lacking(q.needs)
	if e.answered == e.asked && e.sound() && len(q.lacking) == 0 {
		return question{}, false
	}
	q.moving = e.moving || key.Namespace != "" && t.foundForNobody(key.Ref)
	return q, true
}

// foundForNobody says whether what a reference stands for was found without any ImageCache's
// asking. Callers hold mu.
func (t *Table) foundForNobody(ref imageref.Reference) bool {
	if _, ours := t.keys[Key{Ref: ref}]; !ours {
		return false
	}
	for key, e := range t.keys {
		if key.Ref == ref && key.Namespace != "" && e.admitted {
			return false
		}
	}
	return true
}

// accept notes what the registry has. It gives the worst outcome for those who asked, how
// often in a row that was not Pullable, and the owners concerned: all that name the reference.
// A digest that no owner of the key would be let through to leaves the reference as it was.
func (t *Table) accept(key Key, q question, got answer, notBefore time.Time) (worst v1alpha1.ImageCheck, failures int, owners []wish.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.keys[key]
	if !ok {
		return v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}, 0, nil
	}
	e.answered, e.admitted, e.notBefore = q.asked, true, notBefore
	at := t.targets[key.Ref]
	before := at.sum(q.needs)
	got.since(at, e.check)
	next := target{digest: got.digest}.with(got.found)
	if at.digest == got.digest {
		next = at.with(got.found)
	}
	worst = next.sum(q.needs)
	e.failures++
	if worst.Verdict == v1alpha1.VerdictPullable {
		e.failures = 0
	}
	moves := at.digest == q.known || q.moving // else another look-up moved the tag meanwhile: its answer is newer
	switch {
	case at.digest != got.digest && moves && !t.anyPasses(e, key.Ref, next):
		e.note(heldBack(worst, at.digest, got.digest))
		return worst, e.failures, e.list()
	case at.digest == got.digest || moves:
		t.targets[key.Ref] = next
	}
	e.moving = e.moving && e.asked != q.asked
	if before.Verdict != worst.Verdict {
		e.check = nil // what the owners are shown changes now
	}
	e.note(v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable, Time: got.time})
	return worst, e.failures, t.letAll(key.Ref)
}

// refuse notes that the registry did not give an image. What was known stays.
func (t *Table) refuse(key Key, asked int, check v1alpha1.ImageCheck, notBefore time.Time) (failures int, owners []wish.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.keys[key]
	if !ok {
		return 1, nil
	}
	e.failures++
	e.notBefore = notBefore
	changed := e.answered != asked || e.check == nil || e.check.Verdict != check.Verdict || e.check.Reason != check.Reason
	e.answered = asked
	if !changed {
		return e.failures, nil
	}
	e.note(check)
	t.letAll(key.Ref)
	return e.failures, e.list()
}

// note takes down the outcome of a look-up. Its time moves with the verdict.
func (e *entry) note(check v1alpha1.ImageCheck) {
	if e.check != nil && e.check.Verdict == check.Verdict {
		check.Time = e.check.Time
	}
	e.check = &check
}

func (e *entry) list() []wish.Owner {
	var owners []wish.Owner
	for o := range e.owners {
		owners = append(owners, o)
	}
	slices.Sort(owners)
	return owners
}

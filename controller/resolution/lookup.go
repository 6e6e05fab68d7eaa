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
		var found digest.Digest
		found, err = l.look(ctx, key.Ref, q, secrets.chain)
		if err == nil {
			l.Counted(v1alpha1.VerdictPullable)
			l.tell(l.Table.accept(key, q, found, metav1.NewTime(now).Rfc3339Copy()))
			return 0, nil
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return l.refuse(ctx, key, q, secrets, err)
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
	// notBefore is until when the registry wants to be left alone.
	notBefore time.Time
}

// look gives the digest that the registry has, with its content recorded. Where the digest
// did not move one small request is enough. Who only has to show the right to an image
// that the fleet has asks for its digest: that must not move the tag for the others.
func (l *Looker) look(ctx context.Context, ref imageref.Reference, q question, chain keychain.Keychain) (digest.Digest, error) {
	if q.known != "" && !q.moving {
		ref = ref.WithDigest(q.known)
	}
	if q.known != "" && l.Contents.Knows(ref, q.known) {
		now, err := l.Resolver.Digest(ctx, ref, chain)
		if err != nil || now == q.known {
			return now, err
		}
	}
	img, err := l.Resolver.Resolve(ctx, ref, chain)
	if err != nil {
		return "", err
	}
	return img.Digest, l.Contents.Keep(ctx, img)
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
	if !ok || e.answered == e.asked && e.settled(false) {
		return question{}, false
	}
	moving := e.moving || key.Namespace != "" && t.foundForNobody(key.Ref)
	return question{known: t.targets[key.Ref], moving: moving, asked: e.asked, notBefore: e.notBefore}, true
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

// accept notes that the registry has an image. It gives the owners concerned: all that
// name the reference when its digest moved.
func (t *Table) accept(key Key, q question, found digest.Digest, now metav1.Time) []wish.Owner {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.keys[key]
	if !ok {
		return nil
	}
	e.answered, e.admitted, e.failures = q.asked, true, 0
	e.moving = e.moving && e.asked != q.asked
	if e.check == nil || e.check.Verdict != v1alpha1.VerdictPullable {
		e.check = &v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable, Time: now}
	}
	switch before := t.targets[key.Ref]; {
	case before == found:
		return e.list()
	case before != q.known && !q.moving:
		return e.list() // another look-up moved the tag meanwhile: its answer is newer
	}
	t.targets[key.Ref] = found
	var owners []wish.Owner
	for k, other := range t.keys {
		if k.Ref == key.Ref {
			owners = append(owners, other.list()...)
		}
	}
	return owners
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
	if e.check != nil && e.check.Verdict == check.Verdict {
		check.Time = e.check.Time
	}
	e.check = &check
	return e.failures, e.list()
}

func (e *entry) list() []wish.Owner {
	var owners []wish.Owner
	for o := range e.owners {
		owners = append(owners, o)
	}
	slices.Sort(owners)
	return owners
}

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
}

// Sync looks a key up if that was asked for, and says when to try again.
func (l *Looker) Sync(ctx context.Context, key Key) (time.Duration, error) {
	q, wanted := l.Table.open(key)
	if !wanted {
		return 0, nil
	}
	found, err := l.look(ctx, key, q)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if refusal, ok := errors.AsType[*resolve.Error](err); ok {
		check := refusal.Check()
		check.Time = metav1.NewTime(l.Clock.Now()).Rfc3339Copy()
		failures, owners := l.Table.refuse(key, q.asked, check)
		l.tell(owners)
		klog.FromContext(ctx).V(1).Info("Image not found pullable", "image", key.Ref, "namespace", key.Namespace, "reason", check.Reason, "err", err)
		return retry(check.Verdict, failures, refusal.RetryAfter), nil
	}
	if err != nil {
		return 0, err
	}
	l.tell(l.Table.accept(key, q, found, metav1.NewTime(l.Clock.Now()).Rfc3339Copy()))
	return 0, nil
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
}

// look gives the digest that the registry has, with its content recorded. Where the digest
// did not move one small request is enough. Who only has to show the right to an image
// that the fleet has asks for its digest: that must not move the tag for the others.
func (l *Looker) look(ctx context.Context, key Key, q question) (digest.Digest, error) {
	chain, err := l.chain(ctx, key)
	if err != nil {
		return "", err
	}
	ref := key.Ref
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

// chain reads the pull secrets of a key. As for pods, a Secret that is missing or broken
// is passed over: the image may be pullable without it.
func (l *Looker) chain(ctx context.Context, key Key) (keychain.Keychain, error) {
	var secrets []corev1.Secret
	for name := range strings.SplitSeq(key.Secrets, ",") {
		if name == "" {
			continue
		}
		s, err := l.Secrets.Secret(ctx, key.Namespace, name)
		switch {
		case apierrors.IsNotFound(err):
			klog.FromContext(ctx).Info("Pull secret is missing", "secret", klog.KRef(key.Namespace, name))
		case err != nil:
			return keychain.Keychain{}, fmt.Errorf("reading pull secret %s/%s: %w", key.Namespace, name, err)
		default:
			secrets = append(secrets, *s)
		}
	}
	chain, err := keychain.Parse(secrets...)
	if err != nil {
		klog.FromContext(ctx).Info("Pull secret is not usable", "err", err)
	}
	return chain, nil
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
	return question{known: t.targets[key.Ref], moving: e.moving, asked: e.asked}, true
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
func (t *Table) refuse(key Key, asked int, check v1alpha1.ImageCheck) (failures int, owners []wish.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.keys[key]
	if !ok {
		return 1, nil
	}
	e.failures++
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

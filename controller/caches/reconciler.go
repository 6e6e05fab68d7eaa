package caches

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	typedv1alpha1 "edgecache.dev/api/client/clientset/versioned/typed/api/v1alpha1"
	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/credentials"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/keyloop"
	"edgecache.dev/controller/limits"
	"edgecache.dev/controller/nodes"
	"edgecache.dev/controller/resolution"
	"edgecache.dev/controller/rollout"
	"edgecache.dev/controller/sites"
	"edgecache.dev/internal/brief"
)

const (
	// gatherLookUps is how long nodes are not told of some images while others are looked up.
	gatherLookUps = 5 * time.Second
	// refreshJitter spreads refreshes by this share of the interval.
	refreshJitter = 0.1
)

// Metrics show how far the nodes of ImageCaches are.
type Metrics interface {
	CacheNodes(wish.Owner, v1alpha1.NodeCounts)
	ForgetCache(wish.Owner)
}

// Reconciler looks after ImageCaches. All exported fields are required.
type Reconciler struct {
	Caches      listers.ImageCacheLister
	Nodes       corelisters.NodeLister
	Objects     listers.NodeImageCacheNamespaceLister
	ObjectIndex cache.Indexer // of NodeImageCaches, with nodes.Indexers
	Client      typedv1alpha1.ImageCachesGetter
	View        *fleet.View
	Leases      *fleet.LeaseClock
	Table       *resolution.Table
	Sites       *sites.Sites
	Gates       *rollout.Gates
	Vault       *credentials.Vault
	Accounts    *limits.Accounts
	Clock       clock.PassiveClock
	// LookUp asks for a key to be looked up.
	LookUp func(resolution.Key)
	// Again asks for an ImageCache to be looked after.
	Again func(wish.Owner)
	// Touch asks for a node's spec to be worked out again.
	Touch func(node string)
	// ReadSecret asks for a Secret to be read for the vault.
	ReadSecret func(cache.ObjectName)
	// MaySeal says whether pull credentials can be sealed to nodes.
	MaySeal func() bool
	// Metrics show the counts of nodes.
	Metrics Metrics
	// Events tells users of transitions.
	Events record.EventRecorder

	rounds rounds
}

// Prime takes in every ImageCache before any node's spec is worked out: while a cache is
// not known to the table its images would look like nobody's, and while the claims of a
// namespace are not all known too much would seem to fit.
func (r *Reconciler) Prime() error {
	all, err := r.Caches.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing ImageCaches: %w", err)
	}
	objects, err := r.Objects.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing NodeImageCaches: %w", err)
	}
	r.View.Recall(refreshTokens(objects))
	now := r.Clock.Now()
	for _, ic := range all {
		view := r.View.Get(wish.OwnerOf(ic))
		if view == nil || !view.Shows(ic) {
			continue // it was edited or deleted meanwhile: its event is, or was, heard
		}
		r.lookUp(ic, view, r.rounds.of(ic, now))
		if err := r.claim(ic, view, r.images(view)); err != nil {
			return err
		}
	}
	for _, ic := range all {
		r.decide(wish.OwnerOf(ic))
		if view := r.View.Get(wish.OwnerOf(ic)); view != nil && r.gathering(view, r.rounds.of(ic, now), now) == 0 {
			r.judge(view)
		}
	}
	return nil
}

// Sync brings one ImageCache in line: its look-ups, the nodes concerned, its status.
func (r *Reconciler) Sync(ctx context.Context, key cache.ObjectName) (time.Duration, error) {
	ic, err := r.Caches.ImageCaches(key.Namespace).Get(key.Name)
	owner := wish.Owner(key.String())
	if apierrors.IsNotFound(err) {
		r.rounds.forget(owner)
		r.Table.Drop(owner)
		r.Gates.Forget(owner)
		r.Vault.Want(owner, nil)
		r.Accounts.Drop(owner)
		r.decide(owner)
		r.Metrics.ForgetCache(owner)
		r.touchOwned(owner)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading ImageCache %s: %w", key, err)
	}
	view := r.View.Get(owner)
	if view == nil || !view.Shows(ic) {
		return 0, nil // its event is on the way
	}
	if done, err := r.finalize(ctx, ic, owner); done || err != nil {
		return 0, err
	}
	now := r.Clock.Now()
	round := r.rounds.of(ic, now)
	r.lookUp(ic, view, round)
	images := r.images(view)
	if err := r.claim(ic, view, images); err != nil {
		return 0, err
	}
	r.decide(owner)
	wait := r.gathering(view, round, now)
	if wait == 0 || r.Accounts.Refusal(owner) != "" {
		view = r.judge(view)
	}
	f := r.facts(ic, view, images)
	targets := f.targets()
	members := r.tally(f, view, targets)
	r.sumUpSites(f)
	r.reckon(f, view, round)
	r.Metrics.CacheNodes(owner, f.tally.nodes)
	f.rollout = round.rollout
	if wait == 0 {
		f.rollout = r.roll(f, view, members, targets)
		round.rollout = f.rollout
		r.touch(f, view, round, targets)
		wait = round.due(now)
	}
	rest, err := r.publish(ctx, f, view, round)
	return keyloop.Sooner(wait, rest), err
}

// gathering says how long look-ups that are under way are waited for before nodes are told:
// images that are found together are one write per node. A registry that is slow does not
// hold back the images of others for long, and removals wait for none.
func (r *Reconciler) gathering(view *fleet.Cache, round *round, now time.Time) time.Duration {
	if !view.Resolves() || !r.Table.Pending(view.Owner()) {
		return 0
	}
	return max(0, round.asked.Add(gatherLookUps).Sub(now))
}

// finalize keeps the finalizer as the deletion policy asks for, and lets a deleted cache
// go when its removals stand in the nodes' specs. It says whether the cache was written.
func (r *Reconciler) finalize(ctx context.Context, ic *v1alpha1.ImageCache, owner wish.Owner) (bool, error) {
	has := slices.Contains(ic.Finalizers, v1alpha1.FinalizerRemove)
	removes := ic.Spec.DeletionPolicy == v1alpha1.DeletionRemove
	var want bool
	switch {
	case ic.DeletionTimestamp == nil:
		want = removes
	case has && removes:
		owned, err := r.ObjectIndex.IndexKeys(nodes.IndexOwner, string(owner))
		if err != nil {
			return false, fmt.Errorf("finding nodes of ImageCache %s: %w", owner, err)
		}
		want = len(owned) > 0
	}
	if want == has {
		return false, nil
	}
	changed := ic.DeepCopy()
	changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == v1alpha1.FinalizerRemove })
	if want {
		changed.Finalizers = append(changed.Finalizers, v1alpha1.FinalizerRemove)
	}
	if _, err := r.Client.ImageCaches(ic.Namespace).Update(ctx, changed, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("writing finalizer of ImageCache %s: %w", owner, err)
	}
	return true, nil
}

// lookUp tells the table what the cache wants to know.
func (r *Reconciler) lookUp(ic *v1alpha1.ImageCache, view *fleet.Cache, round *round) {
	interest := resolution.Interest{
		Owner: view.Owner(), Namespace: ic.Namespace,
		Known:    ic.Status.Images,
		Precheck: ic.Spec.Precheck,
		Quiet:    !view.Resolves(),
	}
	if !view.ByNode() {
		interest.Images = view.References()
		interest.Platforms = r.platforms(view)
	}
	interest.Again, interest.Retry = round.again(ic, r.Clock.Now())
	for _, s := range ic.Spec.ImagePullSecrets {
		interest.Secrets = append(interest.Secrets, s.Name)
	}
	keys := r.Table.Take(interest)
	if len(keys) > 0 {
		round.asked = r.Clock.Now()
	}
	for _, key := range keys {
		r.LookUp(key)
	}
	r.wantSecrets(ic)
}

// wantSecrets has the Secrets read that the cache names, for sealing.
func (r *Reconciler) wantSecrets(ic *v1alpha1.ImageCache) {
	var names []cache.ObjectName
	for _, s := range ic.Spec.ImagePullSecrets {
		names = append(names, cache.ObjectName{Namespace: ic.Namespace, Name: s.Name})
	}
	for _, name := range r.Vault.Want(wish.OwnerOf(ic), names) {
		r.ReadSecret(name)
	}
}

// touch has the specs of all nodes concerned worked out again when the cache or a digest
// changed. Changes of nodes come by themselves.
func (r *Reconciler) touch(f *facts, view *fleet.Cache, round *round, targets rollout.Targets) {
	now := fingerprint{
		generation: f.ic.Generation, state: view.State(), deleting: f.ic.DeletionTimestamp != nil,
		secrets: r.Vault.Versions(view.Owner()), targets: targets, asks: r.asks(view),
	}
	if round.touched.equal(now) {
		return
	}
	round.touched = now
	all, _ := r.Nodes.List(labels.Everything()) // a lister over an informer's store cannot fail
	for _, n := range all {
		if view.Selects(n) {
			r.Touch(n.Name)
		}
	}
	r.touchOwned(view.Owner())
}

func (r *Reconciler) touchOwned(owner wish.Owner) {
	keys, _ := r.ObjectIndex.IndexKeys(nodes.IndexOwner, string(owner)) // fails only for an index that does not exist
	for _, key := range keys {
		_, name, err := cache.SplitMetaNamespaceKey(key)
		if err == nil {
			r.Touch(name)
		}
	}
}

// facts gathers what the status depends on, but for the nodes.
func (r *Reconciler) facts(ic *v1alpha1.ImageCache, view *fleet.Cache, images []image) *facts {
	return &facts{
		unsealed: len(ic.Spec.ImagePullSecrets) > 0 && !r.MaySeal(),

		ic: ic, images: images, refusal: view.Refusal,
		handled: ic.Status.LastHandledRefreshAt, observed: ic.Status.ObservedGeneration,
	}
}

// reckon says how far look-ups are, by the controller or by the nodes that were counted.
func (r *Reconciler) reckon(f *facts, view *fleet.Cache, round *round) {
	if r.Table.Pending(view.Owner()) {
		return
	}
	f.observed = f.ic.Generation
	if f.tally.owing == 0 {
		f.handled = round.token
	}
}

// publish writes the status if it changed, or says how long it has to wait.
func (r *Reconciler) publish(ctx context.Context, f *facts, view *fleet.Cache, round *round) (time.Duration, error) {
	if f.ic.DeletionTimestamp != nil {
		return 0, nil
	}
	status := f.status()
	if equality.Semantic.DeepEqual(status, f.ic.Status) {
		return 0, nil
	}
	now := r.Clock.Now()
	if wait := pace(&f.ic.Status, &status, round.written, now); wait > 0 {
		return wait, nil
	}
	changed := f.ic.DeepCopy()
	changed.Status = status
	if _, err := r.Client.ImageCaches(f.ic.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("writing status of ImageCache %s: %w", view.Owner(), err)
	}
	round.written = now
	for _, t := range transitions(f.ic.Status.Conditions, status.Conditions) {
		r.Events.Event(f.ic, t.kind, t.reason, t.message)
	}
	return 0, nil
}

// images lists the distinct images with what is known of them, those that do not parse
// included.
func (r *Reconciler) images(view *fleet.Cache) []image {
	var out []image
	for _, ref := range view.References() {
		img := image{name: ref.String(), ref: ref, byNode: view.ByNode()}
		if img.byNode {
			img.target = ref.Digest()
		} else {
			img.target, img.check = r.Table.Known(ref, view.Owner())
		}
		out = append(out, img)
	}
	for _, e := range view.Errs {
		out = append(out, image{name: brief.JSON(fmt.Sprint(e.BadValue), imageref.MaxLength), check: &v1alpha1.ImageCheck{
			Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonInvalidReference, Message: e.Error(),
		}})
	}
	slices.SortStableFunc(out, func(a, b image) int { return cmp.Compare(a.name, b.name) })
	return out
}

// tally counts the selected nodes, and gives them if there is a rollout that needs them.
func (r *Reconciler) tally(f *facts, view *fleet.Cache, targets rollout.Targets) []member {
	far := judge(holding)
	if view.State() == v1alpha1.StatePurged {
		far = purged(string(view.Owner()))
	}
	now, asks, refs := r.Clock.Now(), r.asks(view), view.Lists()
	f.tally.aims = aims{byNode: view.ByNode(), fleet: r.Table.Target, site: r.Sites.Digest, next: targets, last: r.Gates.Of(view.Owner()).Targets}
	var members []member
	var images []*subject
	all, _ := r.Nodes.List(labels.Everything()) // a lister over an informer's store cannot fail
	for i, n := range all {
		lists := f.tally.lists(refs, fleet.OwnSite(n))
		images = images[:0]
		for list := range view.Selecting(n) {
			images = appendNew(images, lists[list], i+1)
		}
		if len(images) == 0 {
			continue
		}
		m := r.member(n, images, now)
		f.tally.count(m, far)
		if view.ByNode() {
			f.tally.place(&m, asks)
		}
		if view.Rollout {
			m.images = slices.Clone(images)
			members = append(members, m)
		}
	}
	return members
}

// member is a node with its images, as far as the stores know it.
func (r *Reconciler) member(n *corev1.Node, images []*subject, now time.Time) member {
	fresh, _ := r.Leases.Fresh(n.Name, now)
	m := member{name: n.Name, site: fleet.OwnSite(n), placed: fleet.Site(n) != "", images: images}
	if object, err := r.Objects.Get(n.Name); err == nil {
		m.object = object
	}
	m.reach = fleet.ReachOf(n, fresh, m.object)
	return m
}

// jittered varies a duration, so that caches made together are not refreshed together.
func jittered(d time.Duration) time.Duration {
	spread := time.Duration(float64(d) * refreshJitter)
	return d - spread + rand.N(2*spread+1)
}

package inventory

import (
	"cmp"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// SetNode takes in a Node as it stands.
func (v *Inventory) SetNode(node *corev1.Node) {
	v.update(func() News {
		r := v.record(node.Name)
		r.exists, r.uid, r.ready = true, node.UID, nodeReady(node)
		v.flights.move(r.Node, v.site(cmp.Or(node.Labels[v1alpha1.LabelSite], node.Labels[corev1.LabelTopologyZone])))
		return News{Node: r.Name, Unknown: v.judge(r)}
	})
}

// update makes a change and tells what it means.
func (v *Inventory) update(change func() News) {
	news, subscribers := func() (News, []func(News)) {
		v.mu.Lock()
		defer v.mu.Unlock()
		return change(), v.subscribers
	}()
	if len(news.Names) == 0 && len(news.Hosts) == 0 && !news.Unknown {
		return
	}
	for _, tell := range subscribers {
		tell(news)
	}
}

// ForgetNode takes in that a Node is gone.
func (v *Inventory) ForgetNode(node string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r := v.records[node]; r != nil {
		r.exists, r.ready, r.uid = false, false, ""
		v.release(r)
	}
}

// SetLease takes in an agent's Lease. What counts is when a renewal was seen, not the time that is written in it: nodes
// without a real-time clock write wrong times. Only for one seen for the first time is that taken into account.
func (v *Inventory) SetLease(object *coordinationv1.Lease) {
	now := v.options.Now()
	l := lease{seen: now, duration: defaultLeaseDuration}
	if object.Spec.RenewTime != nil {
		l.written = object.Spec.RenewTime.Time
	}
	if s := object.Spec.LeaseDurationSeconds; s != nil {
		l.duration = time.Duration(*s) * time.Second
	}
	v.update(func() News {
		before, known := v.leases[object.Name]
		switch {
		case known && before.written.Equal(l.written):
			l.seen = before.seen
		case !known && l.written.Before(now):
			l.seen = l.written
		}
		v.leases[object.Name] = l
		return v.heard(object.Name, l)
	})
}

// defaultLeaseDuration holds for Leases that do not say how long they last.
const defaultLeaseDuration = 10 * time.Minute

// ForgetLease takes in that a Lease is gone.
func (v *Inventory) ForgetLease(node string) {
	v.update(func() News {
		delete(v.leases, node)
		return v.heard(node, lease{})
	})
}

func (v *Inventory) heard(node string, l lease) News {
	r := v.records[node]
	if r == nil {
		return News{}
	}
	r.lease = l
	return News{Node: r.Name, Unknown: v.judge(r)}
}

// judge works out anew whether the node's agent is heard of, and says whether it ceased to be.
func (v *Inventory) judge(r *record) (ceased bool) {
	fresh := r.heard(v.options.Now())
	before := r.Node.facts.Load()
	if r.facts == nil {
		r.Node.facts.Store(nil)
		return before != nil && before.fresh
	}
	now := *r.facts
	now.fresh = fresh
	r.Node.facts.Store(&now)
	return before != nil && before.fresh && !fresh
}

// SetCache takes in what an agent tells of its node, and what the node is asked to hold.
func (v *Inventory) SetCache(object *v1alpha1.NodeImageCache) {
	v.update(func() News { return v.setCache(object) })
}

func (v *Inventory) setCache(object *v1alpha1.NodeImageCache) News {
	r := v.record(object.Name)
	before := r.facts
	r.told, r.nodeUID = true, types.UID(object.Spec.NodeUID)
	r.heartbeat = object.Status.Heartbeat == v1alpha1.HeartbeatNode
	news := News{Node: r.Name, Names: v.hold(r, holdingsOf(object))}
	r.facts = v.factsOf(&object.Status)
	news.Hosts = back(before, r.facts)
	news.Unknown = v.judge(r)
	r.pulls = pullingOf(object.Status.Images)
	v.flights.report(r.Node, v.pullsOf(r))
	v.flights.confirm(r.Node, func(name string) bool { return v.holds(r, name) })
	return news
}

// ForgetCache takes in that a NodeImageCache is gone: nothing is known of the node.
func (v *Inventory) ForgetCache(node string) {
	v.update(func() News {
		r := v.records[node]
		if r == nil {
			return News{}
		}
		v.hold(r, holdings{})
		r.told, r.facts, r.pulls, r.nodeUID, r.heartbeat = false, nil, nil, "", false
		unknown := v.judge(r)
		v.flights.report(r.Node, nil)
		v.release(r)
		return News{Node: node, Unknown: unknown}
	})
}

// holds says whether the node is said to hold a name.
func (v *Inventory) holds(r *record, text string) bool {
	n := v.names[text]
	return n != nil && n.holders.has(r.number)
}

// factsOf is what a status says of the node itself. One that no agent wrote, or none that saw the runtime yet, says
// nothing.
func (v *Inventory) factsOf(s *v1alpha1.NodeImageCacheStatus) *facts {
	if s.Platform == "" {
		return nil
	}
	f := &facts{platform: v.platform(s.Platform), unpack: s.UnpackBytesPerSecond, room: -1}
	for i := range s.Registries {
		g := &s.Registries[i]
		f.registries = append(f.registries, registry{host: g.Host, down: g.Reachable == metav1.ConditionFalse, bytesPerSecond: g.BytesPerSecond})
	}
	if d := s.Disk; d != nil {
		f.room = max(0, d.Available-d.Reserve)
	}
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.NodeConditionOfflineStartAtRisk); c != nil && c.Status == metav1.ConditionTrue {
		f.noSandbox = c.Reason == v1alpha1.ReasonSandboxImageMissing
		f.verifies = c.Reason == v1alpha1.ReasonCredentialsVerified
	}
	return f
}

// back are the registries that were out of reach before and are not now.
func back(before, now *facts) (hosts []string) {
	if before == nil {
		return nil
	}
	for i := range before.registries {
		if g := &before.registries[i]; g.down && (now == nil || !now.down(g.host)) {
			hosts = append(hosts, g.host)
		}
	}
	return hosts
}

// holdings are what one NodeImageCache says is held, and wished.
type holdings struct {
	held   []holding
	wishes [][2]string // name, digest
}

// holding is one image on the node. Where the digest is empty it is not there as a whole: its files come when they are
// read.
type holding struct {
	names  []string
	digest string
	size   int64
}

func holdingsOf(object *v1alpha1.NodeImageCache) (h holdings) {
	for i := range object.Spec.Images {
		if img := &object.Spec.Images[i]; img.Digest != "" {
			h.wishes = append(h.wishes, [2]string{img.Name, img.Digest})
		}
	}
	for i := range object.Status.Images {
		h.image(&object.Status.Images[i])
	}
	for i := range object.Status.OtherImages {
		o := &object.Status.OtherImages[i]
		names := make([]string, len(o.Names))
		for k, n := range o.Names {
			names[k] = canonical(n)
		}
		h.held = append(h.held, holding{names, o.Digest, o.Size})
	}
	return h
}

// image adds one image of a cache. While another digest than the wished one is there, pods that use the name start from
// that. What is being removed is not counted on.
func (h *holdings) image(img *v1alpha1.NodeImageStatus) {
	names := []string{img.Name}
	switch {
	case img.Phase == v1alpha1.PhaseRemoving:
	case img.Phase == v1alpha1.PhaseCached:
		h.held = append(h.held, holding{names, img.Digest, img.Size})
	case img.Current != "":
		h.held = append(h.held, holding{names, img.Current, 0})
	case img.Reason == v1alpha1.ReasonLazyContent:
		h.held = append(h.held, holding{names, "", 0})
	}
}

// canonical is the form of references that everything is compared in; what is no reference stays as it is.
func canonical(text string) string {
	ref, err := imageref.Parse(text)
	if err != nil {
		return text
	}
	return ref.String()
}

// hold replaces what the node is said to hold and gives what is new.
func (v *Inventory) hold(r *record, h holdings) (fresh []string) {
	names, lazy, images, wishes := v.entries(h)
	changed := !slices.Equal(names, r.names) || !slices.Equal(lazy, r.lazy) || !slices.Equal(images, r.images) || !slices.Equal(wishes, r.wishes)
	if !changed {
		return nil
	}
	for _, n := range names {
		if !n.holders.has(r.number) {
			fresh = append(fresh, n.text)
		}
	}
	for _, i := range images {
		if !i.holders.has(r.number) {
			fresh = append(fresh, i.digest)
		}
	}
	oldNames, oldImages, oldWishes := r.names, r.images, r.wishes
	v.unmark(r)
	r.names, r.lazy, r.images, r.wishes = names, lazy, images, wishes
	v.mark(r)
	v.collect(oldNames, oldImages, oldWishes)
	v.generation++
	return fresh
}

// entries finds or makes what is remembered of each.
func (v *Inventory) entries(h holdings) (names, lazy []*name, images []*image, wishes []wish) {
	for i := range h.held {
		of := &h.held[i]
		for _, text := range of.names {
			n := v.name(text)
			names = append(names, n)
			if of.digest == "" {
				lazy = append(lazy, n)
			} else {
				n.digest = of.digest
			}
		}
		if of.digest != "" {
			img := v.image(of.digest)
			img.size = max(img.size, of.size)
			images = append(images, img)
		}
	}
	for _, w := range h.wishes {
		wishes = append(wishes, wish{v.name(w[0]), w[1]})
	}
	return names, lazy, images, wishes
}

func (v *Inventory) mark(r *record) {
	for _, n := range r.names {
		n.holders.add(r.number)
	}
	for _, n := range r.lazy {
		n.lazy.add(r.number)
	}
	for _, i := range r.images {
		i.holders.add(r.number)
	}
	for _, w := range r.wishes {
		w.name.wished[w.digest]++
	}
}

func (v *Inventory) unmark(r *record) {
	for _, n := range r.names {
		n.holders.remove(r.number)
	}
	for _, n := range r.lazy {
		n.lazy.remove(r.number)
	}
	for _, i := range r.images {
		i.holders.remove(r.number)
	}
	for _, w := range r.wishes {
		if w.name.wished[w.digest]--; w.name.wished[w.digest] <= 0 {
			delete(w.name.wished, w.digest)
		}
	}
}

// collect forgets what nobody holds or wishes any more.
func (v *Inventory) collect(names []*name, images []*image, wishes []wish) {
	for _, w := range wishes {
		names = append(names, w.name)
	}
	for _, n := range names {
		if len(n.wished) == 0 && n.holders.empty() {
			delete(v.names, n.text)
		}
	}
	for _, i := range images {
		v.collectImage(i)
	}
}

func (v *Inventory) collectImage(i *image) {
	if i.content == nil && i.holders.empty() {
		delete(v.images, i.digest)
	}
}

func (v *Inventory) name(text string) *name {
	n := v.names[text]
	if n == nil {
		n = &name{text: text, wished: map[string]int{}}
		v.names[text] = n
	}
	return n
}

func (v *Inventory) image(digest string) *image {
	i := v.images[digest]
	if i == nil {
		i = &image{digest: digest}
		v.images[digest] = i
	}
	return i
}

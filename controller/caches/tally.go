package caches

import (
	"cmp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/nodes"
	"edgecache.dev/controller/rollout"
	"edgecache.dev/internal/brief"
)

// maxFailures is how many failures a status lists; failureCount has the true number.
const maxFailures = 20

// subject is an image as it is judged on the nodes of a site, or of the fleet where the
// controller resolves it: what is the same on all of them is worked out once.
type subject struct {
	ref    imageref.Reference
	name   string
	byNode bool   // nodes resolve it: each site has its own digest
	want   string // the digest frozen for the fleet or the site, "" while there is none
	fleet  string // where nodes resolve it, the digest that other ImageCaches brought to some, "" for none
	next   string // the digest that the cache's own rollout brings, "" while there is none
	last   string // the digest that its rollout let nodes in to last, "" for none
	counts *v1alpha1.NodeCounts
	taken  int // by which node last
}

// aims say what a cache's images should be.
type aims struct {
	byNode bool // nodes resolve tags
	fleet  func(imageref.Reference) digest.Digest
	site   func(site string, ref imageref.Reference) (d digest.Digest, drifted bool)
	// next and last are what the cache's own rollout brings, and brought before.
	next, last rollout.Targets
}

func (a *aims) subject(ref imageref.Reference, site string) *subject {
	s := &subject{ref: ref, name: ref.String(), next: a.next.Of(ref, "").String(), last: a.last.Of(ref, site).String()}
	switch {
	case !a.byNode:
		s.want = a.fleet(ref).String()
	case ref.Tag() == "":
		s.want = ref.Digest().String()
	default:
		d, _ := a.site(site, ref)
		s.byNode, s.want, s.next, s.fleet = true, d.String(), d.String(), a.fleet(ref).String()
	}
	return s
}

// elsewhere says whether a node's spec has the image at the fleet's digest, for another
// ImageCache.
func (s *subject) elsewhere(entry *v1alpha1.NodeImage) bool {
	return s.byNode && entry.Resolve != v1alpha1.ResolveNode
}

// wanted gives the digest that a node should hold.
func (s *subject) wanted(object *v1alpha1.NodeImageCache) string {
	if s.fleet != "" {
		if entry := entryOf(object, s.name); entry != nil && s.elsewhere(entry) {
			return s.fleet
		}
	}
	return s.want
}

// member is one selected node.
type member struct {
	name   string
	site   string
	placed bool // some label says which site it is
	reach  fleet.Reach
	images []*subject
	object *v1alpha1.NodeImageCache // nil while the node has none
}

// outcome says how far one image is on one node. A node is as far as the worst of its
// images: failed before updating before done.
type outcome int

const (
	failed outcome = iota
	updating
	done
)

// tally sums up the selected nodes.
type tally struct {
	aims         aims
	nodes        v1alpha1.NodeCounts
	images       map[imageref.Reference]*v1alpha1.NodeCounts
	sites        map[string][][]*subject // the images of each list, by site; "" where all sites are alike
	held         int32                   // nodes last known to hold everything, reachable or not
	failures     []v1alpha1.ImageFailure // the newest, newest first, so that equal tallies give equal statuses
	failureCount int32
	// places are the sites of the selected nodes, by tag that nodes resolve; owing is how
	// many answers to a refresh reachable nodes owe.
	places map[imageref.Reference]map[string]bool
	owing  int
}

// judge decides how far an image is on a node.
type judge func(object *v1alpha1.NodeImageCache, s *subject) (outcome, *v1alpha1.NodeImageStatus)

// count takes one node into the tally.
func (t *tally) count(m member, judge judge) {
	whole := done
	for _, s := range m.images {
		o, status := judge(m.object, s)
		whole = min(whole, o)
		addNode(s.counts, m.reach, o)
		if o == failed && m.reach == fleet.Connected {
			t.fail(m.name, s, status)
		}
	}
	addNode(&t.nodes, m.reach, whole)
	if whole == done {
		t.held++
	}
}

// lists gives the images of each list of a cache, as they are judged in a site. Lists that
// name the same image share its subject.
func (t *tally) lists(refs [][]imageref.Reference, site string) [][]*subject {
	if !t.aims.byNode {
		site = ""
	}
	if lists, ok := t.sites[site]; ok {
		return lists
	}
	lists, subjects := make([][]*subject, len(refs)), map[imageref.Reference]*subject{}
	for i := range refs {
		lists[i] = make([]*subject, 0, len(refs[i]))
		for _, ref := range refs[i] {
			if subjects[ref] == nil {
				subjects[ref] = t.subject(ref, site)
			}
			lists[i] = append(lists[i], subjects[ref])
		}
	}
	if t.sites == nil {
		t.sites = map[string][][]*subject{}
	}
	t.sites[site] = lists
	return lists
}

// subject prepares an image; its subjects in all sites are counted together.
func (t *tally) subject(ref imageref.Reference, site string) *subject {
	if t.images == nil {
		t.images = map[imageref.Reference]*v1alpha1.NodeCounts{}
	}
	s := t.aims.subject(ref, site)
	if t.images[ref] == nil {
		t.images[ref] = &v1alpha1.NodeCounts{}
	}
	s.counts = t.images[ref]
	return s
}

// appendNew adds the images of a list that a node, numbered from 1, does not have yet.
func appendNew(to, list []*subject, node int) []*subject {
	for _, s := range list {
		if s.taken != node {
			s.taken = node
			to = append(to, s)
		}
	}
	return to
}

func addNode(c *v1alpha1.NodeCounts, reach fleet.Reach, o outcome) {
	c.Selected++
	switch {
	case reach == fleet.Unreachable:
		c.Unreachable++
	case reach == fleet.NoAgent:
		c.NoAgent++
	case o == done:
		c.Ready++
	case o == failed:
		c.Failed++
	default:
		c.Updating++
	}
}

// fail takes in a failure. Most are older than the newest 20, and cost nothing more.
func (t *tally) fail(node string, s *subject, status *v1alpha1.NodeImageStatus) {
	t.failureCount++
	f := v1alpha1.ImageFailure{Image: s.name, Node: node, Reason: status.Reason}
	if status.Since != nil {
		f.Since = *status.Since
	}
	if n := len(t.failures); n == maxFailures && newestFirst(t.failures[n-1], f) <= 0 {
		return
	}
	f.Message = brief.JSON(status.Message, maxMessage)
	at, _ := slices.BinarySearchFunc(t.failures, f, newestFirst)
	t.failures = slices.Insert(t.failures, at, f)
	t.failures = t.failures[:min(len(t.failures), maxFailures)]
}

// newestFirst orders failures: by time, then by node and image.
func newestFirst(a, b v1alpha1.ImageFailure) int {
	return cmp.Or(compareTimes(b.Since, a.Since), strings.Compare(a.Node, b.Node), strings.Compare(a.Image, b.Image))
}

func compareTimes(a, b metav1.Time) int { return a.Compare(b.Time) }

// told says whether the node's spec asks for its images at their targets.
func (m *member) told(target func(*subject) string) bool {
	for _, s := range m.images {
		want := target(s)
		if want == "" {
			continue // nobody can be told yet
		}
		if entry := entryOf(m.object, s.name); entry == nil || entry.Digest != want && !s.elsewhere(entry) {
			return false
		}
	}
	return true
}

// progress says how far a node that was let in is with the images that have targets.
func (m *member) progress() rollout.Progress {
	whole := done
	for _, s := range m.images {
		if s.next != "" {
			if entry := entryOf(m.object, s.name); entry != nil && s.elsewhere(entry) {
				s = &subject{name: s.name, want: entry.Digest} // another ImageCache brings it further
			}
			o, _ := holding(m.object, s)
			whole = min(whole, o)
		}
	}
	return map[outcome]rollout.Progress{failed: rollout.Failed, updating: rollout.Working, done: rollout.Done}[whole]
}

// entryOf finds an image in a node's spec, which is sorted by name; nil when it is not there.
func entryOf(object *v1alpha1.NodeImageCache, name string) *v1alpha1.NodeImage {
	if object == nil {
		return nil
	}
	images := object.Spec.Images
	i, found := slices.BinarySearchFunc(images, name, func(i v1alpha1.NodeImage, n string) int { return strings.Compare(i.Name, n) })
	if !found {
		return nil
	}
	return &images[i]
}

// holding judges whether nodes hold the images at their target digests.
func holding(object *v1alpha1.NodeImageCache, s *subject) (outcome, *v1alpha1.NodeImageStatus) {
	want, status := s.wanted(object), statusOf(object, s.name)
	switch {
	case want != "" && crowdedOut(object, s.name):
		return failed, &v1alpha1.NodeImageStatus{Reason: v1alpha1.ReasonNodeLimit, Message: nodeLimit, Since: &object.CreationTimestamp}
	case want == "" && status != nil && status.Digest == "" && status.Phase == v1alpha1.PhaseFailed:
		return failed, status // to find out what the tag stands for
	case want == "" || status == nil || status.Digest != want:
		return updating, status
	case status.Phase == v1alpha1.PhaseCached:
		return done, status
	case status.Phase == v1alpha1.PhaseFailed:
		return failed, status
	}
	return updating, status
}

const nodeLimit = "the node is asked for more than 1000 images: raise this cache's spec.priority, or ask for fewer"

// crowdedOut says whether a node's spec is full without the image.
func crowdedOut(object *v1alpha1.NodeImageCache, name string) bool {
	return object != nil && len(object.Spec.Images) >= nodes.MaxImages && entryOf(object, name) == nil
}

// purged judges whether nodes gave the images up. An image that another cache wants on
// the node stays, and is no longer this cache's business.
func purged(owner string) judge {
	return func(object *v1alpha1.NodeImageCache, s *subject) (outcome, *v1alpha1.NodeImageStatus) {
		if object == nil {
			return done, nil
		}
		entry := entryOf(object, s.name)
		wantedHere := entry != nil && slices.Contains(entry.Owners, owner)
		leaving := slices.ContainsFunc(object.Spec.Remove, func(r v1alpha1.RemoveImage) bool { return r.Name == s.name })
		if wantedHere || leaving {
			return updating, nil
		}
		return done, nil
	}
}

// statusOf finds an image in a node's status, which agents sort by name.
func statusOf(object *v1alpha1.NodeImageCache, name string) *v1alpha1.NodeImageStatus {
	if object == nil {
		return nil
	}
	images := object.Status.Images
	i, ok := slices.BinarySearchFunc(images, name, func(s v1alpha1.NodeImageStatus, n string) int { return strings.Compare(s.Name, n) })
	for ; ok && i < len(images) && images[i].Name == name; i++ {
		if images[i].Phase != v1alpha1.PhaseRemoving {
			return &images[i]
		}
	}
	return nil
}

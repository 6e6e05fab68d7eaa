package caches

import (
	"cmp"
	"slices"

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

// member is one selected node.
type member struct {
	name   string
	site   string
	placed bool // some label says which site it is
	reach  fleet.Reach
	images []imageref.Reference
	object *v1alpha1.NodeImageCache // nil while the node has none
	judge  judge
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
	nodes        v1alpha1.NodeCounts
	images       map[imageref.Reference]*v1alpha1.NodeCounts
	held         int32 // nodes last known to hold everything, reachable or not
	failures     []v1alpha1.ImageFailure
	failureCount int32
	// places are the sites of the selected nodes, by tag that nodes resolve; owing is how
	// many answers to a refresh reachable nodes owe.
	places map[imageref.Reference]map[string]bool
	owing  int
}

// judge decides how far an image is on a node.
type judge func(object *v1alpha1.NodeImageCache, ref imageref.Reference) (outcome, *v1alpha1.NodeImageStatus)

// count takes one node into the tally.
func (t *tally) count(m member, judge judge) {
	whole := done
	for _, ref := range m.images {
		o, status := judge(m.object, ref)
		whole = min(whole, o)
		addNode(t.image(ref), m.reach, o)
		if o == failed && m.reach == fleet.Connected {
			t.fail(m.name, ref, status)
		}
	}
	addNode(&t.nodes, m.reach, whole)
	if whole == done {
		t.held++
	}
}

func (t *tally) image(ref imageref.Reference) *v1alpha1.NodeCounts {
	if t.images == nil {
		t.images = map[imageref.Reference]*v1alpha1.NodeCounts{}
	}
	c, ok := t.images[ref]
	if !ok {
		c = &v1alpha1.NodeCounts{}
		t.images[ref] = c
	}
	return c
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

func (t *tally) fail(node string, ref imageref.Reference, status *v1alpha1.NodeImageStatus) {
	t.failureCount++
	f := v1alpha1.ImageFailure{Image: ref.String(), Node: node, Reason: status.Reason, Message: brief.Text(status.Message, maxMessage)}
	if status.Since != nil {
		f.Since = *status.Since
	}
	t.failures = append(t.failures, f)
	if len(t.failures) >= 2*maxFailures {
		t.failures = newest(t.failures)
	}
}

// newest keeps the newest failures, sorted, so that equal tallies give equal statuses.
func newest(failures []v1alpha1.ImageFailure) []v1alpha1.ImageFailure {
	slices.SortFunc(failures, func(a, b v1alpha1.ImageFailure) int {
		return cmp.Or(compareTimes(b.Since, a.Since), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Image, b.Image))
	})
	return failures[:min(len(failures), maxFailures)]
}

func compareTimes(a, b metav1.Time) int { return a.Compare(b.Time) }

// told says whether a node's spec asks for the images at their targets.
func (m *member) told(targets rollout.Targets) bool {
	for _, ref := range m.images {
		want := targets.Of(ref, m.site)
		if want == "" {
			continue // nobody can be told yet
		}
		i, found := entryOf(m.object, ref)
		if !found {
			return false
		}
		entry := &m.object.Spec.Images[i]
		otherwise := targets[rollout.Image{Ref: ref}] == "" && entry.Resolve != v1alpha1.ResolveNode // by who asks for the fleet's digest
		if !otherwise && entry.Digest != want.String() {
			return false
		}
	}
	return true
}

// progress says how far a node that was let in is with the images that have targets.
func (m *member) progress(targets rollout.Targets) rollout.Progress {
	whole := done
	for _, ref := range m.images {
		if targets.Of(ref, m.site) != "" {
			o, _ := m.judge(m.object, ref)
			whole = min(whole, o)
		}
	}
	return map[outcome]rollout.Progress{failed: rollout.Failed, updating: rollout.Working, done: rollout.Done}[whole]
}

// entryOf finds an image in a node's spec, which is sorted by name.
func entryOf(object *v1alpha1.NodeImageCache, ref imageref.Reference) (int, bool) {
	if object == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(object.Spec.Images, ref.String(), func(i v1alpha1.NodeImage, n string) int { return cmp.Compare(i.Name, n) })
}

// holding judges whether nodes hold the images at their target digests.
func holding(target func(imageref.Reference) digest.Digest) judge {
	return func(object *v1alpha1.NodeImageCache, ref imageref.Reference) (outcome, *v1alpha1.NodeImageStatus) {
		want := target(ref)
		status := statusOf(object, ref)
		switch {
		case want != "" && crowdedOut(object, ref):
			return failed, &v1alpha1.NodeImageStatus{Reason: v1alpha1.ReasonNodeLimit, Message: nodeLimit, Since: &object.CreationTimestamp}
		case want == "" && status != nil && status.Digest == "" && status.Phase == v1alpha1.PhaseFailed:
			return failed, status // to find out what the tag stands for
		case want == "" || status == nil || status.Digest != want.String():
			return updating, status
		case status.Phase == v1alpha1.PhaseCached:
			return done, status
		case status.Phase == v1alpha1.PhaseFailed:
			return failed, status
		}
		return updating, status
	}
}

const nodeLimit = "the node is asked for more than 1000 images: raise this cache's spec.priority, or ask for fewer"

// crowdedOut says whether a node's spec is full without the image.
func crowdedOut(object *v1alpha1.NodeImageCache, ref imageref.Reference) bool {
	if object == nil || len(object.Spec.Images) < nodes.MaxImages {
		return false
	}
	_, found := entryOf(object, ref)
	return !found
}

// purged judges whether nodes gave the images up. An image that another cache wants on
// the node stays, and is no longer this cache's business.
func purged(owner string) judge {
	return func(object *v1alpha1.NodeImageCache, ref imageref.Reference) (outcome, *v1alpha1.NodeImageStatus) {
		if object == nil {
			return done, nil
		}
		name := ref.String()
		wantedHere := slices.ContainsFunc(object.Spec.Images, func(i v1alpha1.NodeImage) bool {
			return i.Name == name && slices.Contains(i.Owners, owner)
		})
		leaving := slices.ContainsFunc(object.Spec.Remove, func(r v1alpha1.RemoveImage) bool { return r.Name == name })
		if wantedHere || leaving {
			return updating, nil
		}
		return done, nil
	}
}

// statusOf finds an image in a node's status, which agents sort by name.
func statusOf(object *v1alpha1.NodeImageCache, ref imageref.Reference) *v1alpha1.NodeImageStatus {
	if object == nil {
		return nil
	}
	images := object.Status.Images
	name := ref.String()
	i, ok := slices.BinarySearchFunc(images, name, func(s v1alpha1.NodeImageStatus, n string) int { return cmp.Compare(s.Name, n) })
	for ; ok && i < len(images) && images[i].Name == name; i++ {
		if images[i].Phase != v1alpha1.PhaseRemoving {
			return &images[i]
		}
	}
	return nil
}

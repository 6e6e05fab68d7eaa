package wish

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// Owner names an ImageCache as "namespace/name", the form of NodeImage.owners. One without
// a slash is edgecache itself.
type Owner string

// OwnerOf gives the owner key of an ImageCache.
func OwnerOf(ic *v1alpha1.ImageCache) Owner {
	return Owner(ic.Namespace + "/" + ic.Name)
}

// Namespace gives the namespace of the ImageCache.
func (o Owner) Namespace() string {
	namespace, _, _ := strings.Cut(string(o), "/")
	return namespace
}

// Cache is an ImageCache prepared for matching against many nodes. It is immutable.
type Cache struct {
	owner  Owner
	state  v1alpha1.CacheState
	policy policy
	byNode bool
	lists  []list
	refs   []imageref.Reference
	seen   map[imageref.Reference]bool // the set of refs
}

type policy struct {
	pin          v1alpha1.PinMode
	keepPrevious int32
	priority     int32
}

type list struct {
	refs     []imageref.Reference
	labels   map[string]v1alpha1.LabelValue
	affinity *nodeaffinity.NodeSelector
}

// Compile prepares an ImageCache. References and selectors that do not parse are left
// out and reported with their field; the rest of the cache stays usable. A list whose
// affinity does not parse selects no node.
func Compile(ic *v1alpha1.ImageCache) (*Cache, field.ErrorList) {
	c := &Cache{
		owner: OwnerOf(ic), state: stateOf(ic), policy: policyOf(&ic.Spec), byNode: ic.Spec.Resolve == v1alpha1.ResolveNode,
		seen: map[imageref.Reference]bool{},
	}
	var errs field.ErrorList
	for i := range ic.Spec.CacheSpec {
		l, lerrs := compileList(&ic.Spec.CacheSpec[i], field.NewPath("spec", "cacheSpec").Index(i))
		errs = append(errs, lerrs...)
		c.refs = appendNew(c.refs, c.seen, l.refs...)
		c.lists = append(c.lists, l)
	}
	return c, errs
}

// SandboxPriority is that of sandbox images: above all that ImageCaches may ask for.
const SandboxPriority = 2000

// Sandbox gives the wish of a node whose runtime makes pod sandboxes of an image: without
// it no pod starts, so nobody has to ask for it.
func Sandbox(image imageref.Reference) *Cache {
	refs := []imageref.Reference{image}
	return &Cache{
		owner: v1alpha1.OwnerSandboxImage, state: v1alpha1.StateCached,
		policy: policy{pin: v1alpha1.PinAlways, keepPrevious: DefaultKeepPrevious, priority: SandboxPriority},
		lists:  []list{{refs: refs}}, refs: refs, seen: map[imageref.Reference]bool{image: true},
	}
}

// appendNew adds references that were not seen.
func appendNew(to []imageref.Reference, seen map[imageref.Reference]bool, refs ...imageref.Reference) []imageref.Reference {
	for _, r := range refs {
		if !seen[r] {
			seen[r] = true
			to = append(to, r)
		}
	}
	return to
}

func stateOf(ic *v1alpha1.ImageCache) v1alpha1.CacheState {
	switch {
	case ic.DeletionTimestamp != nil:
		return v1alpha1.StatePurged
	case ic.Spec.State == "":
		return v1alpha1.StateCached
	}
	return ic.Spec.State
}

func policyOf(spec *v1alpha1.ImageCacheSpec) policy {
	p := policy{pin: v1alpha1.PinAlways, keepPrevious: DefaultKeepPrevious, priority: spec.Priority}
	if spec.Pin == v1alpha1.PinNever {
		p.pin = v1alpha1.PinNever
	}
	if spec.KeepPrevious != nil {
		p.keepPrevious = *spec.KeepPrevious
	}
	return p
}

func compileList(s *v1alpha1.CacheSpecImages, path *field.Path) (list, field.ErrorList) {
	l := list{labels: s.NodeSelector}
	seen := map[imageref.Reference]bool{} // two spellings of one image are one image
	var errs field.ErrorList
	for i, image := range s.Images {
		r, err := imageref.Parse(string(image))
		if err != nil {
			errs = append(errs, field.Invalid(path.Child("images").Index(i), string(image), err.Error()))
			continue
		}
		l.refs = appendNew(l.refs, seen, r)
	}
	affinity, err := compileAffinity(s.NodeAffinity)
	if err != nil {
		errs = append(errs, field.Invalid(path.Child("nodeAffinity"), s.NodeAffinity.String(), err.Error()))
		l.refs = nil
	}
	l.affinity = affinity
	return l, errs
}

// compileAffinity takes a selector without terms for no selector: as a term-less pod
// affinity it would be invalid, and "select no node" cannot have been meant.
func compileAffinity(ns *corev1.NodeSelector) (*nodeaffinity.NodeSelector, error) {
	if ns == nil || len(ns.NodeSelectorTerms) == 0 {
		return nil, nil
	}
	s, err := nodeaffinity.NewNodeSelector(ns)
	if err != nil {
		return nil, fmt.Errorf("parsing node affinity: %w", err)
	}
	return s, nil
}

// Owner gives the key of the ImageCache.
func (c *Cache) Owner() Owner { return c.owner }

// State gives the effective state: Purged for a cache that is being deleted.
func (c *Cache) State() v1alpha1.CacheState { return c.state }

// Suspended gives the cache as it is while it is suspended. One that gives its images up
// stays as it is.
func (c *Cache) Suspended() *Cache {
	if c.state != v1alpha1.StateCached {
		return c
	}
	held := *c
	held.state = v1alpha1.StateSuspended
	return &held
}

// ByNode says whether nodes turn the cache's tags into digests.
func (c *Cache) ByNode() bool { return c.byNode }

// References gives the distinct images of all lists, in order of appearance.
func (c *Cache) References() []imageref.Reference { return c.refs }

// Names says whether any list names an image.
func (c *Cache) Names(r imageref.Reference) bool { return c.seen[r] }

// Lists gives the distinct images of each list. Callers do not change them.
func (c *Cache) Lists() [][]imageref.Reference {
	lists := make([][]imageref.Reference, len(c.lists))
	for i := range c.lists {
		lists[i] = c.lists[i].refs
	}
	return lists
}

// Selecting gives the places of the lists that name images for a node.
func (c *Cache) Selecting(node *corev1.Node) iter.Seq[int] {
	return func(yield func(int) bool) {
		if !Eligible(node) {
			return
		}
		for i := range c.lists {
			if len(c.lists[i].refs) > 0 && c.lists[i].selects(node) && !yield(i) {
				return
			}
		}
	}
}

// Selects says whether any list names images for a node.
func (c *Cache) Selects(node *corev1.Node) bool {
	for range c.Selecting(node) {
		return true
	}
	return false
}

// On gives the distinct images that the cache's lists name for a node, whatever the
// cache's state is; empty when no list selects the node. Callers do not change them: nodes
// that one list selects, or all lists, share them.
func (c *Cache) On(node *corev1.Node) []imageref.Reference {
	selecting := slices.Collect(c.Selecting(node))
	switch len(selecting) {
	case 0:
		return nil
	case 1:
		return c.lists[selecting[0]].refs
	case len(c.lists):
		return c.refs
	}
	var refs []imageref.Reference
	seen := map[imageref.Reference]bool{}
	for _, i := range selecting {
		refs = appendNew(refs, seen, c.lists[i].refs...)
	}
	return refs
}

func (l *list) selects(node *corev1.Node) bool {
	for k, v := range l.labels {
		if got, ok := node.Labels[k]; !ok || got != string(v) {
			return false
		}
	}
	return l.affinity == nil || l.affinity.Match(node)
}

// Eligible says whether a node can hold images at all: a Linux node that is more than a
// stand-in for another system's capacity.
func Eligible(node *corev1.Node) bool {
	if node.Labels["type"] == "virtual-kubelet" {
		return false
	}
	os := node.Status.NodeInfo.OperatingSystem
	if os == "" {
		os = node.Labels[corev1.LabelOSStable]
	}
	return os == "linux"
}

package wish

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// Owner names an ImageCache as "namespace/name", the form of NodeImage.owners.
type Owner string

// OwnerOf gives the owner key of an ImageCache.
func OwnerOf(ic *v1alpha1.ImageCache) Owner {
	return Owner(ic.Namespace + "/" + ic.Name)
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
		for _, r := range l.refs {
			if !c.seen[r] {
				c.seen[r] = true
				c.refs = append(c.refs, r)
			}
		}
		c.lists = append(c.lists, l)
	}
	return c, errs
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
	var errs field.ErrorList
	for i, image := range s.Images {
		r, err := imageref.Parse(string(image))
		if err != nil {
			errs = append(errs, field.Invalid(path.Child("images").Index(i), string(image), err.Error()))
			continue
		}
		l.refs = append(l.refs, r)
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

// ByNode says whether nodes turn the cache's tags into digests.
func (c *Cache) ByNode() bool { return c.byNode }

// References gives the distinct images of all lists, in order of appearance.
func (c *Cache) References() []imageref.Reference { return c.refs }

// Names says whether any list names an image.
func (c *Cache) Names(r imageref.Reference) bool { return c.seen[r] }

// On gives the distinct images that the cache's lists name for a node, whatever the
// cache's state is; empty when no list selects the node.
func (c *Cache) On(node *corev1.Node) []imageref.Reference {
	if !Eligible(node) {
		return nil
	}
	var refs []imageref.Reference
	seen := map[imageref.Reference]bool{}
	for i := range c.lists {
		if !c.lists[i].selects(node) {
			continue
		}
		for _, r := range c.lists[i].refs {
			if !seen[r] {
				seen[r] = true
				refs = append(refs, r)
			}
		}
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

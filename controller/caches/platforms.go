package caches

import (
	"cmp"
	"maps"
	"slices"

	"github.com/containerd/platforms"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"edgecache.dev/api/imageref"
	"edgecache.dev/controller/fleet"
)

// platforms gives, for each image of a cache, the platforms of the nodes that are to have
// it, in containerd's normal form. Nodes that nothing is known of do not count.
func (r *Reconciler) platforms(view *fleet.Cache) func(imageref.Reference) []string {
	lists := view.Lists()
	selected := make([]map[string]bool, len(lists))
	for i := range selected {
		selected[i] = map[string]bool{}
	}
	seen := map[string]string{}                 // parsing is slow, and platforms are few
	all, _ := r.Nodes.List(labels.Everything()) // a lister over an informer's store cannot fail
	for _, n := range all {
		platform := ""
		for list := range view.Selecting(n) {
			if platform == "" {
				platform = r.platformOf(n, seen)
			}
			selected[list][platform] = true
		}
	}
	return byImage(lists, selected)
}

// byImage unites what the lists that name an image select.
func byImage(lists [][]imageref.Reference, selected []map[string]bool) func(imageref.Reference) []string {
	united := map[imageref.Reference][]string{}
	for i, refs := range lists {
		delete(selected[i], "")
		here := slices.Sorted(maps.Keys(selected[i]))
		for _, ref := range refs {
			if before, named := united[ref]; named {
				both := slices.Concat(before, here)
				slices.Sort(both)
				united[ref] = slices.Compact(both)
			} else {
				united[ref] = here
			}
		}
	}
	return func(ref imageref.Reference) []string { return united[ref] }
}

// platformOf gives a node's platform: as its agent says, who knows the variant, else as the
// kubelet does. "" while neither said it.
func (r *Reconciler) platformOf(n *corev1.Node, seen map[string]string) string {
	said := ""
	if object, err := r.Objects.Get(n.Name); err == nil {
		said = object.Status.Platform
	}
	if info := &n.Status.NodeInfo; info.Architecture != "" {
		said = cmp.Or(said, cmp.Or(info.OperatingSystem, "linux")+"/"+info.Architecture)
	}
	normal, known := seen[said]
	if !known && said != "" {
		if p, err := platforms.Parse(said); err == nil {
			normal = platforms.Format(platforms.Normalize(p))
		}
		seen[said] = normal
	}
	return normal
}

package fleet

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/v1alpha1"
)

// Site gives the site that a node stands in by its labels, "" when they do not say.
func Site(n *corev1.Node) string {
	return cmp.Or(n.Labels[v1alpha1.LabelSite], n.Labels[corev1.LabelTopologyZone])
}

// OwnSite gives the site that a node stands in. A node whose labels do not say is a site of
// its own, with a name that no label can have.
func OwnSite(n *corev1.Node) string {
	return cmp.Or(Site(n), "node/"+n.Name)
}

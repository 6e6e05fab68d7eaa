package controller

import (
	"unique"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"edgecache.dev/api/v1alpha1"
)

// slim drops what the controller never reads before an object is kept in memory.
func slim(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	switch o := obj.(type) {
	case *corev1.Node:
		slimNode(o)
	case *v1alpha1.NodeImageCache:
		share(o)
	}
	return obj, nil
}

func slimNode(n *corev1.Node) {
	n.Annotations = nil
	n.Spec = corev1.NodeSpec{}
	var ready []corev1.NodeCondition
	for _, cond := range n.Status.Conditions {
		if cond.Type == corev1.NodeReady {
			ready = []corev1.NodeCondition{{Type: cond.Type, Status: cond.Status}}
		}
	}
	n.Status = corev1.NodeStatus{
		Conditions: ready,
		NodeInfo:   corev1.NodeSystemInfo{OperatingSystem: n.Status.NodeInfo.OperatingSystem, Architecture: n.Status.NodeInfo.Architecture},
	}
}

// share lets the objects of all nodes have one copy of what they have in common. With 50
// images per node that is a third of an object's memory.
func share(o *v1alpha1.NodeImageCache) {
	for i := range o.Spec.Images {
		img := &o.Spec.Images[i]
		intern(&img.Name, &img.Digest, &img.RefreshToken)
		for k := range img.Owners {
			intern(&img.Owners[k])
		}
	}
	for i := range o.Status.Images {
		img := &o.Status.Images[i]
		intern(&img.Name, &img.Digest, &img.Current, (*string)(&img.Phase), &img.Reason)
		if img.Resolved != nil {
			intern(&img.Resolved.Digest, &img.Resolved.RefreshToken)
		}
	}
	intern(&o.Status.AgentVersion, &o.Status.Platform, &o.Status.Runtime.Name, &o.Status.Runtime.Version, &o.Status.Runtime.Snapshotter,
		&o.Status.Runtime.SandboxImage)
}

func intern(strings ...*string) {
	for _, s := range strings {
		*s = unique.Make(*s).Value()
	}
}

package caches

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// BenchmarkSync sums up the status of one ImageCache that selects all of 10,000 nodes, with
// 50 images each.
func BenchmarkSync(b *testing.B) {
	for name, phase := range map[string]v1alpha1.ImagePhase{"cached": v1alpha1.PhaseCached, "failing": v1alpha1.PhaseFailed} {
		b.Run(name, func(b *testing.B) {
			s := newStand(b, nil)
			s.fill(10_000, 50, func(img *v1alpha1.NodeImageStatus) {
				if img.Phase = phase; phase == v1alpha1.PhaseFailed {
					img.Reason, img.Message, img.Since = v1alpha1.ReasonNetworkError, "connection refused", new(metav1.Unix(1000, 0))
				}
			})
			s.sync("all")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sync(b.Context(), key("all")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill makes a fleet whose nodes all hold the same images, and an ImageCache named all that
// selects every node.
func (s *stand) fill(nodes, images int, edit func(*v1alpha1.NodeImageStatus)) {
	s.tb.Helper()
	var names []string
	for i := range images {
		names = append(names, fmt.Sprintf("registry.example/team/application-%03d:v1.27.3", i))
	}
	for i := range nodes {
		s.join(i, func(o *v1alpha1.NodeImageCache) {
			for _, name := range names {
				img := v1alpha1.NodeImageStatus{Name: name, Digest: digestFor(name).String()}
				edit(&img)
				o.Status.Images = append(o.Status.Images, img)
				o.Spec.Images = append(o.Spec.Images, v1alpha1.NodeImage{Name: name, Digest: img.Digest, Owners: []string{"ns/all"}})
			}
		})
	}
	s.create(resolved("all", names...))
}

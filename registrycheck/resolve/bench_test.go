package resolve

import (
	"fmt"
	"io"
	"log"
	"testing"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
)

// bench gives a resolver for one registry with one image, and its reference.
func bench(b *testing.B, platforms int) (*Resolver, imageref.Reference) {
	b.Helper()
	log.SetOutput(io.Discard)
	s := unstarted()
	s.Start()
	b.Cleanup(s.Close)
	list := make([]string, 0, platforms)
	for i := range platforms {
		list = append(list, fmt.Sprintf("linux/cpu%d", i))
	}
	t := &testing.T{}
	s.push(t, "app:v1", indexOf(t, list...))
	r, err := New(plain("registry.test"), access.WithDial(names{"registry.test": s}.dial))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.Close)
	ref, err := imageref.Parse("registry.test/app:v1")
	if err != nil {
		b.Fatal(err)
	}
	return r, ref
}

// BenchmarkDigest is what a refresh costs for each image.
func BenchmarkDigest(b *testing.B) {
	r, ref := bench(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Digest(b.Context(), ref, anonymous); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResolve is what a new digest costs.
func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(n, "platforms"), func(b *testing.B) {
			r, ref := bench(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Resolve(b.Context(), ref, anonymous); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package edgeagent

import (
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// TestSandboxImage: the image of pod sandboxes is pinned and reported without anybody's
// asking; wished, it comes back when it is lost.
func TestSandboxImage(t *testing.T) {
	t.Parallel()
	const pause = "r.io/pause:3"
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		b.driver.with(func() { b.driver.sandbox = ref(pause) })
		b.driver.put(pause, d1)
		b.wish(2, images())
		time.Sleep(10 * time.Second)
		if h := b.driver.holds()[ref(pause)]; !h.Pinned || h.Managed {
			t.Errorf("the sandbox image is %+v, want it pinned and not managed", h)
		}
		if got := b.desk.sandboxImage(); got != pause {
			t.Errorf("reported %q, want %s", got, pause)
		}
		b.wish(3, images(image(pause, d1)))
		time.Sleep(10 * time.Second)
		b.driver.lose(pause)
		time.Sleep(10 * time.Second)
		b.desk.expect(t, 3, pause+" Cached")
		b.driver.expect(t, pause)
		b.stop()
		if ledger := b.ledger(); ledger[pause].Digest != d1.String() {
			t.Errorf("ledger = %+v", ledger)
		}
	})
}

// TestSandboxImageIsRemembered: what a runtime told outlasts the process and the object that
// it was reported in. Forgotten, it would be let go of.
func TestSandboxImageIsRemembered(t *testing.T) {
	t.Parallel()
	const pause = "r.io/pause:3"
	object := func(uid string) *v1alpha1.NodeImageCache {
		return &v1alpha1.NodeImageCache{
			ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Generation: 3}, Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "node-uid"},
		}
	}
	tests := map[string]func(b *bench){
		"a restart":                            func(b *bench) { b.stop(); b.start(Options{}) },
		"a restart, and the object forgot":     func(b *bench) { b.stop(); b.start(Options{}); b.agent.Hear(object("uid")) },
		"the object is gone":                   func(b *bench) { b.agent.Hear(nil) },
		"another object":                       func(b *bench) { b.agent.Hear(object("other")) },
		"another object, and then the restart": func(b *bench) { b.agent.Hear(object("other")); time.Sleep(time.Second); b.stop(); b.start(Options{}) },
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Options{})
				b.driver.with(func() { b.driver.sandbox = ref(pause) })
				b.driver.put(pause, d1)
				b.wish(2, images(image(pause, d1)))
				time.Sleep(10 * time.Second)
				b.driver.with(func() { b.driver.sandbox = (imageref.Reference{}) })
				happens(b)
				time.Sleep(10 * time.Minute)
				b.stop()
				if got := b.desk.sandboxImage(); got != pause {
					t.Errorf("reported %q, want %s", got, pause)
				}
				if h := b.driver.holds()[ref(pause)]; !h.Pinned {
					t.Errorf("the sandbox image is %+v, want it pinned", h)
				}
			})
		})
	}
}

// TestSandboxImageStaysReported: a runtime that cannot tell, as one without pods, takes
// nothing back of what was reported of it. Another runtime does.
func TestSandboxImageStaysReported(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before v1alpha1.RuntimeInfo
		tells  string
		want   string
	}{
		"nothing is known":         {},
		"as it was":                {before: v1alpha1.RuntimeInfo{Name: "memory", SandboxImage: "r.io/pause:3"}, want: "r.io/pause:3"},
		"the runtime tells":        {before: v1alpha1.RuntimeInfo{Name: "memory", SandboxImage: "r.io/pause:3"}, tells: "r.io/pause:4", want: "r.io/pause:4"},
		"another runtime":          {before: v1alpha1.RuntimeInfo{Name: "other", SandboxImage: "r.io/pause:3"}},
		"somebody wrote nonsense":  {before: v1alpha1.RuntimeInfo{Name: "memory", SandboxImage: "no image"}},
		"nothing was reported yet": {before: v1alpha1.RuntimeInfo{Name: "memory"}, tells: "r.io/pause:4", want: "r.io/pause:4"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Options{})
				b.driver.with(func() {
					if b.driver.sandbox = (imageref.Reference{}); tc.tells != "" {
						b.driver.sandbox = ref(tc.tells)
					}
				})
				b.agent.Hear(&v1alpha1.NodeImageCache{
					ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: 1},
					Status:     v1alpha1.NodeImageCacheStatus{Runtime: tc.before},
				})
				time.Sleep(10 * time.Second)
				b.stop()
				if got := b.desk.sandboxImage(); got != tc.want {
					t.Errorf("reported %q, want %q", got, tc.want)
				}
			})
		})
	}
}

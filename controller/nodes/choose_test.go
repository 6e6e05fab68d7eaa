package nodes

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
)

// TestPlanOfNodesThatResolve: ns/n has nodes resolve, ns/a does not.
func TestPlanOfNodesThatResolve(t *testing.T) {
	t.Parallel()
	const app = "r.io/app:v1"
	pinned := "r.io/app@" + d2.String()
	byNode := func(name string, owners ...wish.Owner) []wish.Image {
		w := wished(name, owners...)
		w.ByNode = []wish.Owner{"ns/n"}
		return []wish.Image{w}
	}
	asked := func(d digest.Digest, token string, every time.Duration, owners ...string) v1alpha1.NodeImage {
		e := entry(app, d, owners...)
		e.Resolve, e.RefreshToken = v1alpha1.ResolveNode, token
		if every > 0 {
			e.ResolveEvery = &metav1.Duration{Duration: every}
		}
		if d == "" {
			e.Size = 0
		}
		return e
	}
	fleetWide := known{targets: map[string]digest.Digest{app: d1}, waiting: []wish.Owner{"ns/n"}}
	unanswered := known{waiting: []wish.Owner{"ns/n", "ns/a"}}
	tests := map[string]struct {
		object  v1alpha1.NodeImageCache
		wish    []wish.Image
		targets known
		site    digest.Digest
		ask     fleet.Ask
		gaveUp  bool
		strayed bool
		holds   bool
		want    v1alpha1.NodeImageCacheSpec
	}{
		"the agent is asked while the site has no digest, and the wish is complete": {
			wish: byNode(app, "ns/n"), targets: unanswered,
			want: spec("uid", asked("", "", 0, "ns/n")),
		},
		"the site's digest, with token and interval": {
			wish: byNode(app, "ns/n"), targets: unanswered, site: d2, ask: fleet.Ask{Token: "t", Every: time.Hour},
			object: holding(asked("", "", 0, "ns/n")),
			want:   spec("uid", asked(d2, "t", time.Hour, "ns/n")),
		},
		"a digest that was written is not taken away": {
			wish: byNode(app, "ns/n"), targets: unanswered, object: holding(entry(app, d1, "ns/n")),
			want: spec("uid", asked(d1, "", 0, "ns/n")),
		},
		"a reference by digest is not asked for": {
			wish: byNode(pinned, "ns/n"), targets: unanswered, ask: fleet.Ask{Token: "t"},
			want: spec("uid", entry(pinned, d2, "ns/n")),
		},
		"the fleet's digest wins, for both": {
			wish: byNode(app, "ns/a", "ns/n"), targets: fleetWide, site: d2,
			object: holding(asked(d2, "t", 0, "ns/n")),
			want:   spec("uid", entry(app, d1, "ns/a", "ns/n")),
		},
		"who waits for the fleet's digest does not hold back the site's": {
			wish: byNode(app, "ns/a", "ns/n"), targets: unanswered, site: d2,
			want: spec("uid", asked(d2, "", 0, "ns/n")),
		},
		"a rollout holds back a digest, not the question": {
			wish: byNode(app, "ns/n"), targets: unanswered, site: d2, ask: fleet.Ask{Token: "t"}, holds: true,
			object: holding(asked(d1, "", 0, "ns/n")),
			want:   spec("uid", asked(d1, "t", 0, "ns/n")),
		},
		"nobody asks for an image that is held": {
			wish:    []wish.Image{func() wish.Image { w := wished(app, "ns/n"); w.Held = d1; return w }()},
			targets: unanswered, site: d2, ask: fleet.Ask{Token: "t2", Every: time.Hour},
			object: holding(asked(d1, "t1", time.Hour, "ns/n")),
			want:   spec("uid", asked(d1, "t1", 0, "ns/n")),
		},
		"an image that was given up before it had a digest is not removed": {
			targets: unanswered, object: holding(asked("", "", 0, "ns/n")), gaveUp: true,
			want: spec("uid"),
		},
		"nor does it stay for its grace": {
			targets: unanswered, object: holding(asked("", "", 0, "ns/n")), strayed: true,
			want: spec("uid"),
		},
		"edited to Controller: the digest stays until the answer, and nobody asks": {
			wish: []wish.Image{wished(app, "ns/a")}, targets: unanswered, object: holding(asked(d1, "t", time.Hour, "ns/a")),
			want: spec("uid", entry(app, d1, "ns/a")),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := planInput{
				nodeUID: "uid", object: &tc.object, wish: tc.wish, targets: tc.targets,
				atSite:  func(imageref.Reference) digest.Digest { return tc.site },
				ask:     func(imageref.Reference) fleet.Ask { return tc.ask },
				size:    func(digest.Digest) int64 { return 100 },
				gaveUp:  func(wish.Owner) bool { return tc.gaveUp },
				strayed: func(wish.Owner, imageref.Reference) bool { return tc.strayed },
				grace:   time.Hour, sealer: noSealing(), now: now,
				holds: func(wish.Owner, imageref.Reference, digest.Digest) bool { return tc.holds },
			}
			got := plan(in)
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			in.object = &v1alpha1.NodeImageCache{Spec: got}
			if diff := cmp.Diff(got, plan(in), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("planned again (-first +second):\n%s", diff)
			}
		})
	}
}

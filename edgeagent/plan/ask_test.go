package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// byNode has the node resolve an image.
func byNode(img v1alpha1.NodeImage, edits ...func(*v1alpha1.NodeImage)) v1alpha1.NodeImage {
	img.Resolve = v1alpha1.ResolveNode
	for _, edit := range edits {
		edit(&img)
	}
	return img
}

func TestNextOfNodesThatResolve(t *testing.T) {
	t.Parallel()
	const app = "r.io/app:v1"
	token := func(s string) func(*v1alpha1.NodeImage) { return func(i *v1alpha1.NodeImage) { i.RefreshToken = s } }
	hourly := func(i *v1alpha1.NodeImage) { i.ResolveEvery = &metav1.Duration{Duration: time.Hour} }
	said := func(r store.Resolved) store.Entry { return store.Entry{Name: app, Digest: d1.String(), Resolved: &r} }
	img := func(d digest.Digest) []Image { return []Image{{Ref: ref(app), Digest: d, Pin: true}} }
	tests := map[string]struct {
		desired store.Desired
		ledger  []store.Entry
		holds   runtime.Inventory
		want    Steps
	}{
		"a tag without digest is asked for": {
			desired: wants(byNode(image(app, ""))),
			want:    Steps{Unresolved: img(""), Asks: []Ask{{Ref: ref(app), Now: true}}},
		},
		"an answer waits for the controller": {
			desired: wants(byNode(image(app, ""))),
			ledger:  []store.Entry{{Name: app, Resolved: &store.Resolved{Digest: d1.String()}}},
			want:    Steps{Unresolved: img(""), Asks: []Ask{{Ref: ref(app)}}},
		},
		"what is held stays as it is while nobody knows more": {
			desired: wants(byNode(image(app, ""))),
			ledger:  []store.Entry{{Name: app, Digest: d1.String(), Previous: []string{d2.String(), d3.String()}}},
			holds:   union(named(app, d1), digestNamed("r.io/app", d2), digestNamed("r.io/app", d3)),
			want:    Steps{Unresolved: img(""), Asks: []Ask{{Ref: ref(app), Now: true}}},
		},
		"also when the ledger is lost": {
			desired: wants(byNode(image(app, ""))),
			holds:   named(app, d1),
			want:    Steps{Unresolved: img(""), Asks: []Ask{{Ref: ref(app), Now: true}}},
		},
		"a digest is brought as any other": {
			desired: wants(byNode(image(app, d1), hourly)),
			want: Steps{
				Missing: img(d1), Asks: []Ask{{Ref: ref(app), Wished: d1, Every: time.Hour}},
				Save: []store.Entry{{Name: app, Resolved: &store.Resolved{Wished: d1.String()}}},
			},
		},
		"who comes to a digest does not answer the token beside it": {
			desired: wants(byNode(image(app, d1), token("t"))), holds: named(app, d1),
			want: Steps{
				Cached: img(d1), Asks: []Ask{{Ref: ref(app), Wished: d1, Token: "t"}},
				Save: []store.Entry{said(store.Resolved{Wished: d1.String(), RefreshToken: "t"})},
			},
		},
		"but the first token after a digest without one": {
			desired: wants(byNode(image(app, d1), token("t"))), holds: named(app, d1),
			ledger: []store.Entry{said(store.Resolved{Wished: d1.String()})},
			want:   Steps{Cached: img(d1), Asks: []Ask{{Ref: ref(app), Wished: d1, Token: "t", Now: true}}},
		},
		"a token that was not answered": {
			desired: wants(byNode(image(app, d1), token("t2"))), holds: named(app, d1),
			ledger: []store.Entry{said(store.Resolved{Digest: d1.String(), Wished: d1.String(), RefreshToken: "t1"})},
			want:   Steps{Cached: img(d1), Asks: []Ask{{Ref: ref(app), Wished: d1, Token: "t2", Now: true}}},
		},
		"a token that was answered": {
			desired: wants(byNode(image(app, d1), token("t1"))), holds: named(app, d1),
			ledger: []store.Entry{said(store.Resolved{Digest: d2.String(), Wished: d1.String(), RefreshToken: "t1", Newer: true})},
			want:   Steps{Cached: img(d1), Asks: []Ask{{Ref: ref(app), Wished: d1, Token: "t1"}}},
		},
		"a first answer that the site did not take is shown, not newer": {
			desired: wants(byNode(image(app, d1))), holds: named(app, d1),
			ledger: []store.Entry{said(store.Resolved{Digest: d2.String()})},
			want: Steps{
				Cached: img(d1), Asks: []Ask{{Ref: ref(app), Wished: d1}},
				Save: []store.Entry{said(store.Resolved{Digest: d2.String(), Wished: d1.String()})},
			},
		},
		"an answer is outdated when another digest is wished": {
			desired: wants(byNode(image(app, d1), token("t"))), holds: named(app, d1),
			ledger: []store.Entry{said(store.Resolved{Digest: d3.String(), Wished: d2.String(), RefreshToken: "t", Newer: true})},
			want: Steps{
				Cached: img(d1), Asks: []Ask{{Ref: ref(app), Wished: d1, Token: "t"}},
				Save: []store.Entry{said(store.Resolved{Wished: d1.String(), RefreshToken: "t"})},
			},
		},
		"an answer is forgotten when the controller resolves": {
			desired: wants(image(app, d1)), holds: named(app, d1),
			ledger: []store.Entry{said(store.Resolved{Digest: d1.String(), Wished: d1.String()})},
			want:   Steps{Cached: img(d1), Save: []store.Entry{{Name: app, Digest: d1.String()}}},
		},
		"an entry of the controller's without digest is not understood": {
			desired: wants(image(app, "")),
			want:    Steps{},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Next(Input{Desired: tc.desired, Ledger: ledgerOf(tc.ledger), Inventory: tc.holds, Names: true, Pins: true, Untags: true})
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(imageref.Reference{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	answer := func(d, wished digest.Digest, token string) *store.Resolved {
		return &store.Resolved{Digest: d.String(), Wished: wished.String(), RefreshToken: token, Newer: wished != "" && d != wished}
	}
	tests := map[string]struct {
		ask    Ask
		before *store.Resolved
		found  digest.Digest
		want   *store.Resolved // nil when it is no news
	}{
		"the first":               {Ask{Now: true}, nil, d1, answer(d1, "", "")},
		"to a token, the same":    {Ask{Now: true, Wished: d1, Token: "t"}, answer(d1, d1, ""), d1, answer(d1, d1, "t")},
		"to a token, another":     {Ask{Now: true, Wished: d1, Token: "t"}, nil, d2, answer(d2, d1, "t")},
		"now and then, as wished": {Ask{Wished: d1}, nil, d1, nil},
		"now and then, as wished and what was found before is outdated": {Ask{Wished: d1, Token: "t"}, &store.Resolved{Wished: d1.String(), RefreshToken: "t"}, d1, nil},
		"now and then, another":       {Ask{Wished: d1}, nil, d2, answer(d2, d1, "")},
		"now and then, another again": {Ask{Wished: d1}, answer(d2, d1, ""), d2, nil},
		"moved back":                  {Ask{Wished: d1, Token: "t"}, answer(d2, d1, "t"), d1, answer(d1, d1, "t")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, news := tc.ask.Answer(tc.before, tc.found)
			if news != (tc.want != nil) {
				t.Fatalf("news %v: %+v", news, got)
			}
			if diff := cmp.Diff(tc.want, got); news && diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

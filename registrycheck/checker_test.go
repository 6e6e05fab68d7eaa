package registrycheck

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{"runtime": {Runtime: "rkt"}, "wait": {MaxWait: -1}, "images": {Images: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestBadReference: what cannot be a reference is a result like others.
func TestBadReference(t *testing.T) {
	t.Parallel()
	got := newChecker(t, Options{}).Check(t.Context(), Request{Reference: "https://Registry/App", Source: "deploy.yaml:3"})
	if got.Verdict != NotPullable || got.Reason != ReasonInvalidReference || got.Source != "deploy.yaml:3" || got.Message == "" {
		t.Errorf("Check = %+v", got)
	}
}

// TestResult shows all that is known of a healthy index.
func TestResult(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, ad := s.image(t, "app", "", "linux/amd64", 2)
	b, bd := s.image(t, "app", "", "linux/arm/v7", 1)
	shared := s.layer(t, "app", "shared", ocispec.MediaTypeImageLayerZstd)
	add := func(what *built, d *ocispec.Descriptor) {
		what.manifest.Layers = append(what.manifest.Layers, shared.Descriptor, shared.Descriptor)
		what.config.RootFS.DiffIDs = append(what.config.RootFS.DiffIDs, shared.diffID, shared.diffID)
		what.store(t, s, "app")
		p := d.Platform
		*d = s.manifest(t, "app", "", ocispec.MediaTypeImageManifest, what.manifest)
		d.Platform = p
	}
	add(&a, &ad)
	add(&b, &bd)
	top := s.index(t, "app", "v1", ad, bd)
	c := newChecker(t, Options{})
	got := c.Check(t.Context(), Request{Reference: s.ref("app:v1"), Source: "a.yaml:1", Platforms: parse(t, "linux/arm/v8", "linux/amd64")})
	of := func(node, image string, what built, d ocispec.Descriptor) Platform {
		p := Platform{Platform: node, Image: image, Finding: Finding{Verdict: Pullable, Reason: ReasonAvailable}, Digest: d.Digest.String(), Config: what.manifest.Config.Digest.String()}
		var gzipped int64
		for _, l := range what.manifest.Layers {
			p.Layers = append(p.Layers, Layer{l.Digest.String(), l.MediaType, l.Size})
			if l.Digest != shared.Digest {
				gzipped += l.Size
				p.Disk += l.Size*5/2 + l.Size
			}
		}
		p.Size = d.Size + what.manifest.Config.Size + gzipped + shared.Size
		p.Disk += 4 * shared.Size
		return p
	}
	arm, amd := of("linux/arm/v8", "linux/arm/v7", b, bd), of("linux/amd64", "linux/amd64", a, ad)
	want := Result{
		Reference: s.ref("app:v1"), Source: "a.yaml:1", Finding: Finding{Verdict: Pullable, Reason: ReasonAvailable},
		Digest: top.Digest.String(), MediaType: ocispec.MediaTypeImageIndex, Host: s.addr(),
		Size: arm.Size + amd.Size - shared.Size + top.Size, Offered: []string{"linux/amd64", "linux/arm/v7"}, Platforms: []Platform{arm, amd},
	}
	// Halves of bytes are cut per layer.
	near := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Disk" }, cmp.Comparer(func(a, b int64) bool { return a-b < 8 && b-a < 8 }))
	if diff := cmp.Diff(want, got, near); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

// TestEachObjectIsAskedForOnce: over platforms, tags, and images that are named twice; and
// how to log in once per registry.
func TestEachObjectIsAskedForOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	_, a := s.image(t, "app", "v1", "linux/amd64", 3)
	_, b := s.image(t, "app", "", "linux/arm64", 2)
	s.index(t, "app", "v2", a, b)
	s.image(t, "other", "v1", "linux/amd64", 1)
	c := newChecker(t, Options{})
	var requests []Request
	for _, image := range []string{"app:v1", "app:v2", "app:v2", "other:v1", "app:v1"} {
		requests = append(requests, Request{Reference: s.ref(image)})
	}
	told := map[int]bool{}
	for i, r := range c.CheckAll(t.Context(), requests, func(i int, r Result) { told[i] = r.Verdict == Pullable }) {
		if r.Verdict != Pullable || !told[i] || r.Reference != requests[i].Reference {
			t.Errorf("%d: %+v", i, r)
		}
	}
	got := s.took()
	slices.Sort(got)
	if twice := len(got) - len(slices.Compact(slices.Clone(got))); twice > 0 {
		t.Errorf("%d requests were sent twice:\n%s", twice, strings.Join(got, "\n"))
	}
	// /v2/; app: 2 tags, 1 manifest by digest more than its tag (of v1), 1 of arm64, 2
	// configurations, 5 layers; other: tag, configuration, layer.
	if want := 1 + 2 + 2 + 2 + 5 + 3; len(got) != want {
		t.Errorf("%d requests, want %d:\n%s", len(got), want, strings.Join(got, "\n"))
	}
}

// TestOtherCredentialsAskForThemselves: what one may read says nothing about another.
func TestOtherCredentialsAskForThemselves(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.image(t, "app", "v1", host, 1)
	s.on(basic)
	c := newChecker(t, Options{})
	got := c.CheckAll(t.Context(), []Request{
		{Reference: s.ref("app:v1"), Keychain: keychain.Of(user(s.addr(), "scott", "pa55"))},
		{Reference: s.ref("app:v1")},
		{Reference: s.ref("app:v1"), Keychain: keychain.Of(user(s.addr()+"/app", "scott", "pa55"))},
	}, nil)
	var verdicts []Reason
	for _, r := range got {
		verdicts = append(verdicts, r.Reason)
	}
	if diff := cmp.Diff([]Reason{ReasonAvailable, ReasonUnauthorized, ReasonAvailable}, verdicts); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

// TestCancelled: a check that is ended ends at once, whatever the registry does.
func TestCancelled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	arrived := make(chan struct{}, 100)
	s.on(func(_ http.ResponseWriter, r *http.Request) bool {
		arrived <- struct{}{}
		<-r.Context().Done()
		return true
	})
	c := newChecker(t, Options{MaxWait: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	requests := make([]Request, 40)
	for i := range requests {
		requests[i].Reference = s.ref("app:v1")
	}
	for _, r := range c.CheckAll(ctx, requests, nil) {
		if r.Verdict != Inconclusive || r.Reason != ReasonCancelled {
			t.Errorf("%+v", r.Finding)
		}
	}
}

// TestAllThatTheIndexOffers is checked where no platform is asked for, and the worst
// counts.
func TestAllThatTheIndexOffers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	_, a := s.image(t, "app", "", "linux/amd64", 1)
	b, bd := s.image(t, "app", "", "linux/arm64", 2)
	s.index(t, "app", "v1", a, bd)
	s.remove("app", b.manifest.Layers[1])
	got := newChecker(t, Options{}).Check(t.Context(), Request{Reference: s.ref("app:v1")})
	if got.Reason != ReasonBlobMissing || len(got.Platforms) != 2 || got.Platforms[0].Verdict != Pullable || got.Platforms[1].Reason != ReasonBlobMissing {
		t.Errorf("Check = %+v", got)
	}
	if !strings.HasSuffix(got.URL, b.manifest.Layers[1].Digest.String()) {
		t.Errorf("URL %s", got.URL)
	}
}

func TestRedirectHosts(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.image(t, "app", "v1", host, 2)
	s.on(redirect(t, s, "/blobs/", nil))
	c := newChecker(t, Options{Settings: access.Settings{AllowedHosts: []string{"127.0.0.2"}}})
	got := c.Check(t.Context(), Request{Reference: s.ref("app:v1")})
	if got.Verdict != Pullable || len(got.RedirectHosts) != 1 || !strings.HasPrefix(got.RedirectHosts[0], "127.0.0.2:") {
		t.Errorf("Check = %+v", got)
	}
}

// TestFull: the size of the content is known then.
func TestFull(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.image(t, "app", "v1", host, 2)
	got := newChecker(t, Options{Runtime: CRIO}).Check(t.Context(), Request{Reference: s.ref("app:v1"), Full: true})
	want := int64(len(content(t, "appv1"+host+" 0")) + len(content(t, "appv1"+host+" 1")))
	if p := got.Platforms[0]; got.Verdict != Pullable || p.Unpacked != want || p.Disk != want {
		t.Errorf("unpacked %d, disk %d, want %d: %+v", p.Unpacked, p.Disk, want, got.Finding)
	}
	if heads := strings.Count(strings.Join(s.took(), "\n"), "HEAD "); heads > 0 {
		t.Errorf("%d requests with HEAD for what is downloaded", heads)
	}
}

func TestCheckOfAStatus(t *testing.T) {
	t.Parallel()
	r := Result{Finding: Finding{Verdict: NotPullable, Reason: ReasonNotFound, Message: "not there", Fix: "push it"}}
	if diff := cmp.Diff(v1alpha1.ImageCheck{Verdict: NotPullable, Reason: "NotFound", Message: "not there: push it"}, r.Check()); diff != "" {
		t.Errorf("check (-want +got):\n%s", diff)
	}
	r = Result{Finding: Finding{Verdict: Pullable, Reason: ReasonAvailable}}
	if diff := cmp.Diff(v1alpha1.ImageCheck{Verdict: Pullable}, r.Check(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("check (-want +got):\n%s", diff)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	of := func(v Verdict) Result { return Result{Finding: Finding{Verdict: v}} }
	tests := map[string]struct {
		results []Result
		want    Summary
	}{
		"none":         {nil, Summary{Verdict: Pullable}},
		"all":          {[]Result{of(Pullable), of(Pullable)}, Summary{2, 2, 0, 0, Pullable}},
		"inconclusive": {[]Result{of(Pullable), of(Inconclusive)}, Summary{2, 1, 0, 1, Inconclusive}},
		"worst counts": {[]Result{of(NotPullable), of(Inconclusive), of(Pullable)}, Summary{3, 1, 1, 1, NotPullable}},
	}
	for name, tc := range tests {
		if diff := cmp.Diff(tc.want, NewReport(tc.results).Summary); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

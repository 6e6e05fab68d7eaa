package manifest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/edgeagent/store"
)

const d1, d2 = "sha256:1111111111111111111111111111111111111111111111111111111111111111", "sha256:2222222222222222222222222222222222222222222222222222222222222222"

// player is an agent that does at once what it is told, and a registry.
type player struct {
	source *Source
	tags   map[string]string // what the registry gives, by canonical reference

	mu      sync.Mutex
	spec    v1alpha1.NodeImageCacheSpec
	gen     int64
	trouble error
	away    bool // it neither stores nor reports
}

// Hear stores the wish and reports.
func (p *player) Hear(object *v1alpha1.NodeImageCache) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return
	}
	p.spec, p.gen = *object.Spec.DeepCopy(), object.Generation
	p.report()
}

// HearTrouble keeps it.
func (p *player) HearTrouble(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trouble = err
}

func (p *player) report() {
	status := &v1alpha1.NodeImageCacheStatus{ObservedGeneration: p.gen}
	for _, img := range p.spec.Images {
		s := v1alpha1.NodeImageStatus{Name: img.Name, Digest: img.Digest, Phase: v1alpha1.PhaseCached}
		if found := p.tags[img.Name]; img.Resolve == v1alpha1.ResolveNode && found != "" {
			s.Resolved = &v1alpha1.ResolvedTag{Digest: found, Newer: img.Digest != "" && img.Digest != found && img.ResolveEvery != nil}
		}
		status.Images = append(status.Images, s)
	}
	p.source.Offer(UID, status)
}

// wish gives what is wished, as "name digest", and what is to be removed.
func (p *player) wish() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, img := range p.spec.Images {
		all = append(all, fmt.Sprintf("%s %.8s", strings.TrimPrefix(img.Name, "r.example/"), strings.TrimPrefix(img.Digest, "sha256:")))
	}
	for _, r := range p.spec.Remove {
		all = append(all, "remove "+strings.TrimPrefix(r.Name, "r.example/"))
	}
	return all
}

func (p *player) expect(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, p.wish()); diff != "" {
		t.Errorf("wish (-want +got):\n%s", diff)
	}
}

// Desired is the wish as it was heard last.
func (p *player) Desired() (store.Desired, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return store.Desired{UID: string(UID), Generation: p.gen, Spec: p.spec, Known: p.spec.NodeUID != ""}, p.gen > 0, nil
}

// shelf keeps manifests.
type shelf struct {
	*player
	rows map[string]store.Manifest
}

// Manifests gives them.
func (s *shelf) Manifests() (all []store.Manifest, err error) {
	for _, m := range s.rows {
		all = append(all, m)
	}
	return all, nil
}

// SaveManifests keeps them.
func (s *shelf) SaveManifests(save []store.Manifest, drop []string) error {
	for _, m := range save {
		s.rows[m.Key()] = m
	}
	for _, key := range drop {
		delete(s.rows, key)
	}
	return nil
}

type stand struct {
	*player
	t      *testing.T
	dir    string
	shelf  *shelf
	cancel context.CancelFunc
	done   chan struct{}
}

func newStand(t *testing.T) *stand {
	t.Helper()
	p := &player{tags: map[string]string{"r.example/pos:v1": d1, "r.example/menu:latest": d1}}
	return &stand{player: p, t: t, dir: t.TempDir(), shelf: &shelf{player: p, rows: map[string]store.Manifest{}}}
}

func (s *stand) start() {
	s.t.Helper()
	s.source = New(s.dir, "till-1", "arm64", map[string]string{"site": "lisbon"}, s.shelf)
	if err := s.source.Recall(); err != nil {
		s.t.Fatal(err)
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(s.t.Context())
	s.done = make(chan struct{})
	go func() { defer close(s.done); s.source.Run(ctx, s) }()
	settled()
}

func (s *stand) stop() { s.cancel(); <-s.done }

func settled() {
	time.Sleep(3 * lookEvery)
	synctest.Wait()
}

func (s *stand) write(name, spec string) {
	s.t.Helper()
	text := header + "metadata: {name: " + strings.TrimSuffix(name, ".yaml") + "}\nspec: " + spec + "\n"
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	settled()
}

func (s *stand) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
	settled()
}

func on(t *testing.T, play func(t *testing.T, s *stand)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t)
		s.start()
		defer func() { s.stop() }()
		play(t, s)
	})
}

func TestFilesAreTheWish(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1], nodeSelector: {site: lisbon}}, {images: [r.example/other:v1], nodeSelector: {site: porto}}]}")
		s.write("arm.yaml", "{cacheSpec: [{images: ['r.example/arm@"+d2+"'], nodeSelector: {kubernetes.io/arch: arm64, kubernetes.io/hostname: till-1}}]}")
		s.expect(t, "arm@"+d2+" 22222222", "pos:v1 11111111")
		if !s.knows() {
			t.Error("the wish is not known")
		}
		generation := s.gen
		time.Sleep(24 * time.Hour)
		if s.gen != generation {
			t.Errorf("generation %d after an idle day, %d before", s.gen, generation)
		}
	})
}

func (p *player) knows() bool {
	d, _, _ := p.Desired()
	return d.Known
}

// TestTagsStayFrozen: what a tag stood for first counts, unless the ImageCache asks again.
func TestTagsStayFrozen(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1, r.example/menu]}], refreshInterval: 1m}")
		s.expect(t, "menu:latest 11111111", "pos:v1 11111111")
		s.mu.Lock()
		s.tags["r.example/pos:v1"], s.tags["r.example/menu:latest"] = d2, d2
		s.report()
		s.mu.Unlock()
		settled()
		s.expect(t, "menu:latest 22222222", "pos:v1 11111111")
	})
}

// TestAMistakeChangesNothing: a file with a mistake leaves what was in force, over a restart.
func TestAMistakeChangesNothing(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1]}]}")
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/menu, 'R.example/POS:v1 ']}]}")
		s.expect(t, "pos:v1 11111111")
		s.stop()
		s.start()
		s.expect(t, "pos:v1 11111111")
		if s.trouble == nil || !strings.Contains(s.trouble.Error(), "pos.yaml, document 1: ImageCache default/pos: spec.cacheSpec[0].images[1]") {
			t.Errorf("trouble: %v", s.trouble)
		}
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/menu]}]}")
		s.expect(t, "menu:latest 11111111")
		if s.trouble != nil {
			t.Errorf("trouble: %v", s.trouble)
		}
	})
}

// TestAMistakeUnderAnotherName: a file that got a mistake and then another name, or an ImageCache
// that was moved into one that has a mistake, is not deleted, also over a restart.
func TestAMistakeUnderAnotherName(t *testing.T) {
	t.Parallel()
	const spec = "{cacheSpec: [{images: [%s]}], deletionPolicy: Remove}"
	for name, tc := range map[string]struct {
		play func(s *stand)
		file string   // with the mistake
		goes []string // once that is gone
	}{
		"renamed": {func(s *stand) {
			s.write("pos.yaml", "{cacheSpec: [{images: ['R.example/POS:v1 ']}]}")
			if err := os.Rename(filepath.Join(s.dir, "pos.yaml"), filepath.Join(s.dir, "till.yaml")); err != nil {
				s.t.Fatal(err)
			}
			settled()
		}, "till.yaml", []string{"pos:v1"}},
		"moved into another": {func(s *stand) {
			s.write("menu.yaml", "{cacheSpec: [{images: ['R.example/POS:v1 ']}]}")
			s.remove("pos.yaml")
		}, "menu.yaml", []string{"menu:latest", "pos:v1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			on(t, func(t *testing.T, s *stand) {
				s.write("pos.yaml", fmt.Sprintf(spec, "r.example/pos:v1"))
				s.write("menu.yaml", fmt.Sprintf(spec, "r.example/menu"))
				tc.play(s)
				s.expect(t, "menu:latest 11111111", "pos:v1 11111111")
				s.stop()
				s.start()
				s.expect(t, "menu:latest 11111111", "pos:v1 11111111")
				told := s.record()
				s.remove(tc.file)
				if diff := cmp.Diff(tc.goes, told()); diff != "" {
					t.Errorf("removed once no file has a mistake (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestAnUnreadDirectoryChangesNothing: a disk that is not mounted is no deletion.
func TestAnUnreadDirectoryChangesNothing(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1]}], deletionPolicy: Remove}")
		if err := os.Rename(s.dir, s.dir+".away"); err != nil {
			t.Fatal(err)
		}
		settled()
		s.expect(t, "pos:v1 11111111")
		if s.trouble == nil || !strings.Contains(s.trouble.Error(), "--manifest") {
			t.Errorf("trouble: %v", s.trouble)
		}
		if err := os.Rename(s.dir+".away", s.dir); err != nil {
			t.Fatal(err)
		}
		settled()
		s.expect(t, "pos:v1 11111111")
		if s.trouble != nil {
			t.Errorf("trouble: %v", s.trouble)
		}
	})
}

// TestDeletionPolicy: also of a file that goes while the agent is down, or of which it did
// not hear when it was killed.
func TestDeletionPolicy(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string][]string{"Retain": nil, "Remove": {"remove pos:v1"}} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			on(t, func(t *testing.T, s *stand) {
				s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1]}], deletionPolicy: "+policy+"}")
				s.stop()
				if err := os.Remove(filepath.Join(s.dir, "pos.yaml")); err != nil {
					t.Fatal(err)
				}
				s.away = true
				s.start()
				s.stop()
				s.away = false
				s.start()
				if heard := s.gen; heard < 2 {
					t.Errorf("generation %d", heard)
				}
				if len(s.shelf.rows) != 0 {
					t.Errorf("not forgotten: %v", s.shelf.rows)
				}
				if want == nil {
					s.expect(t)
					return
				}
				s.expect(t) // carried out and reported
			})
		})
	}
}

func TestRemovalsAreTold(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1, r.example/menu]}], deletionPolicy: Remove}")
		told := s.record()
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/menu]}], deletionPolicy: Remove}")
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/menu]}], deletionPolicy: Remove, state: Suspended}")
		s.write("more.yaml", "{cacheSpec: [{images: [r.example/menu]}]}")
		s.remove("pos.yaml")
		s.remove("more.yaml")
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1]}]}")
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1]}], state: Purged}")
		if diff := cmp.Diff([]string{"pos:v1", "pos:v1"}, told()); diff != "" {
			t.Errorf("removed (-want +got):\n%s", diff)
		}
	})
}

// record gives what was to be removed since, in order.
func (s *stand) record() func() []string {
	seen := &recorder{player: s.player}
	s.stop()
	s.source = New(s.dir, "till-1", "arm64", map[string]string{"site": "lisbon"}, s.shelf)
	if err := s.source.Recall(); err != nil {
		s.t.Fatal(err)
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(s.t.Context())
	s.done = make(chan struct{})
	go func() { defer close(s.done); s.source.Run(ctx, seen) }()
	settled()
	return func() []string {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(seen.removals)
	}
}

type recorder struct {
	*player
	removals []string
}

// Hear notes removals.
func (r *recorder) Hear(object *v1alpha1.NodeImageCache) {
	r.mu.Lock()
	for _, e := range object.Spec.Remove {
		r.removals = append(r.removals, strings.TrimPrefix(e.Name, "r.example/"))
	}
	r.mu.Unlock()
	r.player.Hear(object)
}

// TestALabelThatIsLost: images of an ImageCache that no longer selects the node stay an hour.
func TestALabelThatIsLost(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1], nodeSelector: {site: lisbon}}]}")
		s.stop()
		s.source = New(s.dir, "till-1", "arm64", nil, s.shelf)
		if err := s.source.Recall(); err != nil {
			t.Fatal(err)
		}
		var ctx context.Context
		ctx, s.cancel = context.WithCancel(t.Context())
		s.done = make(chan struct{})
		go func() { defer close(s.done); s.source.Run(ctx, s) }()
		time.Sleep(grace - time.Minute)
		s.expect(t, "pos:v1 11111111")
		time.Sleep(2 * time.Minute)
		s.expect(t)
	})
}

// TestNoGoodVersionIsUnknown: where nothing is remembered and a file has a mistake nothing
// is given up.
func TestNoGoodVersionIsUnknown(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("a.yaml", "{cacheSpec: []}")
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1]}]}")
		s.expect(t, "pos:v1 11111111")
		if s.knows() {
			t.Error("the wish is taken for known")
		}
		s.remove("a.yaml")
		if !s.knows() {
			t.Error("the wish is not known when the file is gone")
		}
		s.write("b.yaml", "{cacheSpec: []}")
		if !s.knows() {
			t.Error("the wish was whole, and another mistake has it forgotten")
		}
	})
}

// TestALostStoreAndAMistake: where the wish was saved and the manifests were not, images of
// a file with a mistake stay as they are.
func TestALostStoreAndAMistake(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *stand) {
		s.write("pos.yaml", "{cacheSpec: [{images: [r.example/pos:v1]}], deletionPolicy: Remove}")
		s.stop()
		clear(s.shelf.rows)
		s.start()
		s.expect(t, "pos:v1 11111111")
		s.stop()
		clear(s.shelf.rows)
		s.start()
		s.write("pos.yaml", "{cacheSpec: []}")
		s.stop()
		clear(s.shelf.rows)
		s.start()
		s.write("menu.yaml", "{cacheSpec: [{images: [r.example/menu]}]}")
		s.expect(t, "menu:latest 11111111", "pos:v1 11111111")
	})
}

func TestTwoFilesOneName(t *testing.T) {
	t.Parallel()
	text := func(images string) []byte {
		return []byte(header + "metadata: {name: pos}\nspec: {cacheSpec: [{images: [" + images + "]}]}\n")
	}
	f := force{}.take([]file{{name: "a.yaml", data: text("a")}, {name: "b.yaml", data: text("b")}})
	if f.mistakes == nil || !strings.Contains(f.mistakes.Error(), "b.yaml: ImageCache default/pos stands in a.yaml, too") {
		t.Errorf("mistakes: %v", f.mistakes)
	}
	if got := f.held["default/pos"].File; got != "a.yaml" {
		t.Errorf("in force is that of %s", got)
	}
}

// TestSandbox: the image that pods begin with is held at the digest that the runtime has.
func TestSandbox(t *testing.T) {
	t.Parallel()
	node := New("", "n", "amd64", nil, nil).node
	status := &v1alpha1.NodeImageCacheStatus{Runtime: v1alpha1.RuntimeInfo{SandboxImage: "r.example/pause:3"}}
	in := planInput{node: node, caches: map[wish.Owner]*cache{}, whole: true, status: status}
	if spec := plan(in); len(spec.Images) != 0 {
		t.Errorf("without a digest: %v", spec.Images)
	}
	status.OtherImages = []v1alpha1.OtherImage{{Digest: d1, Names: []string{"r.example/pause:3"}}}
	in.current = plan(in)
	status.OtherImages = nil
	spec := plan(in)
	want := []v1alpha1.NodeImage{{Name: "r.example/pause:3", Digest: d1, Priority: wish.SandboxPriority, Owners: []string{v1alpha1.OwnerSandboxImage}}}
	if diff := cmp.Diff(want, spec.Images); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := imageref.Parse(want[0].Name); err != nil {
		t.Error(err)
	}
}

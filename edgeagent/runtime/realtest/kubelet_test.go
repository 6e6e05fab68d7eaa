package realtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
)

func node() string { return platforms.DefaultString() }

// pull pulls an image as the kubelet does.
func (w *world) pull(t *testing.T) error {
	t.Helper()
	_, err := w.cri().PullImage(t.Context(), &api.PullImageRequest{Image: &api.ImageSpec{Image: w.request.Name.String()}})
	return err
}

// TestKubeletGoesOnWhereTheAgentStands is a pod that needs the image while it is half here.
func TestKubeletGoesOnWhereTheAgentStands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	w.half(t, d)
	if err := w.pull(t); err != nil {
		t.Fatal(err)
	}
	if n := w.repeated(); n != 0 {
		t.Errorf("%d bytes sent twice: %+v", n, w.reg.Transfers(w.layer))
	}
	w.report(t, "half by the agent, the rest by the kubelet's pull")
	w.reg.Forget()
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		t.Fatal(err)
	}
	if sent := w.reg.Sent(); sent != 0 {
		t.Errorf("managing an image that is there cost %d bytes", sent)
	}
	w.held(t, d)
	w.noLeases(t)
}

// TestAgentAndKubeletAtOnce pulls one image by both hands: each blob is sent once.
func TestAgentAndKubeletAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	w.reg.Set(fetchtest.Faults{Rate: 8_000_000})
	done := w.ensured(t.Context(), d)
	if err := w.pull(t); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.held(t, d)
	if n := w.repeated(); n != 0 {
		t.Errorf("%d bytes sent twice: %+v", n, w.reg.Transfers(w.layer))
	}
	w.report(t, "agent and kubelet at once")
}

// TestImagesLookLikeTheKubelets compares with what a pull of the kubelet leaves.
func TestImagesLookLikeTheKubelets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		t.Fatal(err)
	}
	name := w.request.Name.String()
	eventually(t, "the kubelet sees both names", func() bool {
		s := w.status(t, name)
		return s != nil && len(s.RepoTags) == 1 && len(s.RepoDigests) == 1
	})
	ours := w.status(t, name)
	if err := w.pull(t); err != nil {
		t.Fatal(err)
	}
	if theirs := w.status(t, name); theirs.Id != ours.Id || !cmp.Equal(theirs.RepoTags, ours.RepoTags) ||
		!cmp.Equal(theirs.RepoDigests, ours.RepoDigests) || theirs.Size != ours.Size || !ours.Pinned || !theirs.Pinned {
		t.Errorf("after the agent: %v, after a pull of the kubelet: %v", ours, theirs)
	}
}

// TestRecordsOfCRIGoWithTheLastName: else the content would stay for ever.
func TestRecordsOfCRIGoWithTheLastName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	if err := w.pull(t); err != nil {
		t.Fatal(err)
	}
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		t.Fatal(err)
	}
	inv, err := d.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := inv[w.request.Name].ID
	if w.record(t, id) == nil {
		t.Fatalf("CRI made no record %s: the test is void", id)
	}
	names := runtime.NamesOf(w.request.Name, w.request.Digest)
	if err := d.Remove(t.Context(), names[0]); err != nil {
		t.Fatal(err)
	}
	if w.record(t, id) == nil || !w.has(t, w.layer) {
		t.Fatal("the image went with one of two names")
	}
	if err := d.Remove(t.Context(), names[1]); err != nil {
		t.Fatal(err)
	}
	if w.record(t, id) != nil || w.has(t, w.layer) {
		t.Errorf("record %v, layer %v, want both gone", w.record(t, id), w.has(t, w.layer))
	}
}

func TestInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		t.Fatal(err)
	}
	inv, err := d.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct{}{inv[w.request.Name].ID: {}}
	img, err := w.client.GetImage(t.Context(), w.request.Name.String())
	if err != nil {
		t.Fatal(err)
	}
	for what, create := range map[string]client.NewContainerOpts{
		"by name":     client.WithImageName(w.request.Name.String()),
		"by ID":       client.WithImageName(inv[w.request.Name].ID),
		"by snapshot": client.WithNewSnapshot("by-snapshot", img),
	} {
		c, err := w.client.NewContainer(t.Context(), strings.ReplaceAll(what, " ", "-"), create, client.WithRuntime("io.containerd.runc.v2", nil))
		if err != nil {
			t.Fatal(err)
		}
		used, err := d.InUse(t.Context())
		if diff := cmp.Diff(want, used); err != nil || diff != "" {
			t.Errorf("%s: %v, in use (-want +got):\n%s", what, err, diff)
		}
		if err := c.Delete(t.Context(), client.WithSnapshotCleanup); err != nil {
			t.Error(err)
		}
	}
	if used, err := d.InUse(t.Context()); err != nil || len(used) != 0 {
		t.Errorf("in use = %v, %v, want none", used, err)
	}
}

// TestDamagedLayerIsFetchedAgain has a layer in the content store whose file was damaged,
// by a bad disk or by hand, before it was unpacked.
func TestDamagedLayerIsFetchedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	body := w.reg.Blob(w.layer)
	desc := ocispec.Descriptor{Digest: w.layer, Size: int64(len(body))}
	ctx, done, err := w.client.WithLease(t.Context(), leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := content.WriteBlob(ctx, w.client.ContentStore(), "by-hand", strings.NewReader(string(body)), desc); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "root/io.containerd.content.v1.content/blobs/sha256", w.layer.Encoded())
	body[len(body)/2] ^= 0xff
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 0xff
	err = d.Ensure(t.Context(), w.request, nil)
	if err == nil || !strings.Contains(err.Error(), "is damaged and was deleted") || !runtime.Transient(err) {
		t.Fatalf("error = %v, want a transient one that names the damage", err)
	}
	if err := done(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		t.Fatal(err)
	}
	w.held(t, d)
	if sent := w.reg.Sent(w.layer); sent != desc.Size {
		t.Errorf("registry sent %d bytes of the layer, want %d", sent, desc.Size)
	}
}

// TestDiscardedLayersAreNotFetchedAgain is a node that throws layers away when they are
// unpacked: a second image pays for its own layer only.
func TestDiscardedLayersAreNotFetchedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{discardLayers: true})
	d := w.containerd(t)
	base := fetchtest.Layer(t, time.Now().UnixNano(), 1_000_000)
	w.request.Digest = w.reg.Push(t, "app:v1", fetchtest.Image(t, node(), base))
	if err := w.pull(t); err != nil {
		t.Fatal(err)
	}
	eventually(t, "containerd throws the unpacked layer away", func() bool {
		w.collect(t)
		return !w.has(t, fetchtest.Digest(t, base))
	})
	own := fetchtest.Layer(t, time.Now().UnixNano(), 1000)
	second := runtime.Request{Name: w.reg.Ref(t, "app:v2"), Digest: w.reg.Push(t, "app:v2", fetchtest.Image(t, node(), base, own))}
	w.reg.Forget()
	for _, r := range []runtime.Request{w.request, second} {
		if err := d.Ensure(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if sent := w.reg.Sent(fetchtest.Digest(t, base)); sent != 0 || w.reg.Sent(fetchtest.Digest(t, own)) == 0 {
		t.Errorf("registry sent %d bytes of a base that is unpacked", sent)
	}
	inv, err := d.Inventory(t.Context())
	if err != nil || !inv[w.request.Name].Complete || !inv[second.Name].Complete {
		t.Errorf("inventory = %v, %v, want both complete", inv, err)
	}
}

// TestLeaseIsRenewedDuringALongPull shortens a day to seconds. A lease is renewed when it
// has lived for a third of its time, so the machine may be busy for half of it.
func TestLeaseIsRenewedDuringALongPull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t, func(o *containerd.Options) {
		o.LeaseTTL, o.Fetch = 24*time.Second, fetch.Options{Reopen: 3 * time.Second}
	})
	w.reg.Set(fetchtest.Faults{Rate: 250_000}) // 32 s: more than a lease lasts
	ids := map[string]bool{}
	for done := w.ensured(t.Context(), d); ; {
		ls, err := w.client.LeasesService().List(t.Context(), `labels."edgecache.dev/pull"`)
		if err != nil || len(ls) > 2 {
			t.Fatalf("leases = %v, %v, want at most two", ls, err)
		}
		for _, l := range ls {
			ids[l.ID] = true
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			w.held(t, d)
			if len(ids) < 3 {
				t.Errorf("%d leases, want several", len(ids))
			}
			w.neverAnew(t)
			w.noLeases(t)
			w.report(t, "32 s pull under leases of 24 s")
			return
		case <-time.After(200 * time.Millisecond):
			w.collect(t)
		}
	}
}

// neverAnew wants each request for the layer to go on behind the one before: nothing that
// was there was collected. What is on its way when a writer is reopened is sent again, more
// of it on a busy machine.
func (w *world) neverAnew(t *testing.T) {
	t.Helper()
	transfers := w.reg.Transfers(w.layer)
	for i := 1; i < len(transfers); i++ {
		if tr := transfers[i]; tr.First < transfers[i-1].First {
			t.Errorf("request %d begins anew at byte %d: %+v", i, tr.First, transfers)
		}
	}
	if len(transfers) < 2 {
		t.Errorf("%d requests: no writer was reopened", len(transfers))
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for what, d := range map[string]runtime.Driver{"containerd": w.containerd(t), "cri": w.overCRI(t)} {
		info, err := d.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := runtime.Info{
			Name: "containerd", Version: info.Version, Snapshotter: info.Snapshotter, Platform: node(),
			Root: filepath.Join(w.dir, "root/io.containerd.snapshotter.v1.overlayfs"), Capabilities: info.Capabilities,
		}
		if diff := cmp.Diff(want, info, cmp.AllowUnexported(imageref.Reference{})); diff != "" || !strings.HasPrefix(info.Version, "v2.") {
			t.Errorf("%s: info (-want +got):\n%s", what, diff)
		}
		if what == "containerd" && info.Snapshotter != "overlayfs" {
			t.Errorf("snapshotter = %q, want overlayfs", info.Snapshotter)
		}
	}
}

// TestHintsSurviveARestart listens over a kill of containerd.
func TestHintsSurviveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	d := w.containerd(t)
	if err := d.Ensure(t.Context(), w.request, nil); err != nil {
		t.Fatal(err)
	}
	hints := d.Changes(t.Context())
	w.powerCycle(t)
	// When the driver listens again is not to be seen: until then a change is not heard.
	eventually(t, "a change is hinted at after containerd came back", func() bool {
		for hinted(hints, 4*time.Second) {
			// Of the kill, and of tries to listen again.
		}
		w.unname(t, w.request.Name)
		defer w.name(t, w.request.Name, w.request.Digest)
		return hinted(hints, 4*time.Second)
	})
}

// hinted waits for a hint for a while.
func hinted(hints <-chan struct{}, d time.Duration) bool {
	select {
	case <-hints:
		return true
	case <-time.After(d):
		return false
	}
}

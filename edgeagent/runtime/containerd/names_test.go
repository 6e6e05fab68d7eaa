package containerd

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
)

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSplit(t *testing.T) {
	t.Parallel()
	const id, otherID = "sha256:1111", "sha256:2222"
	name := func(name, digest, id string) named { return named{name, digest, id} }
	v1, v2 := name("r.example/app:v1", "d1", id), name("r.example/app:v2", "d1", id)
	record := name(id, "d1", id)
	tests := map[string]struct {
		all     []named
		remove  []string
		gone    []named
		orphans []named
	}{
		"one of two names":                  {[]named{v1, v2, record}, []string{"r.example/app:v1"}, []named{v1}, nil},
		"both names":                        {[]named{v1, v2, record}, []string{"r.example/app:v1", "r.example/app:v2"}, []named{v1, v2}, []named{record}},
		"no record of CRI":                  {[]named{v1}, []string{"r.example/app:v1"}, []named{v1}, nil},
		"not there":                         {[]named{v1, record}, []string{"r.example/app:v3"}, nil, nil},
		"same config under another digest":  {[]named{v1, name("r.example/app:v3", "d3", id), record}, []string{"r.example/app:v1"}, []named{v1}, nil},
		"record of that other digest stays": {[]named{v1, name("r.example/app:v3", "d3", id), name(id, "d3", id)}, []string{"r.example/app:v1"}, []named{v1}, nil},
		"another image's record":            {[]named{v1, record, name(otherID, "d2", otherID)}, []string{"r.example/app:v1"}, []named{v1}, []named{record}},
		"broken image, known by its digest": {[]named{name("r.example/app:v1", "d1", ""), name(id, "d1", "")}, []string{"r.example/app:v1"}, []named{name("r.example/app:v1", "d1", "")}, []named{name(id, "d1", "")}},
		"a name that is no reference keeps": {[]named{v1, name("import-2026", "d1", id), record}, []string{"r.example/app:v1"}, []named{v1}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var names []imageref.Reference
			for _, s := range tc.remove {
				names = append(names, ref(t, s))
			}
			gone, orphans := split(tc.all, names)
			if diff := cmp.Diff([][]named{tc.gone, tc.orphans}, [][]named{gone, orphans}, cmp.AllowUnexported(named{})); diff != "" {
				t.Errorf("removed, orphans (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	d1 := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("1"), Size: 1}
	d2 := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("2"), Size: 2}
	full := map[string]string{labelCRI: managedByCRI, labelManaged: yes, labelPinned: pinned, "other": "x"}
	tests := map[string]struct {
		have images.Image
		pin  bool
		want []string
	}{
		"as wanted":       {images.Image{Target: d1, Labels: full}, true, nil},
		"pinned before":   {images.Image{Target: d1, Labels: full}, false, []string{"labels." + labelPinned}},
		"another target":  {images.Image{Target: d2, Labels: full}, true, []string{"target"}},
		"pulled by CRI":   {images.Image{Target: d1, Labels: map[string]string{labelCRI: managedByCRI}}, true, []string{"labels." + labelManaged, "labels." + labelPinned}},
		"made by hand":    {images.Image{Target: d1}, false, []string{"labels." + labelManaged, "labels." + labelCRI}},
		"all is wrong":    {images.Image{Target: d2}, true, []string{"labels." + labelManaged, "labels." + labelCRI, "labels." + labelPinned, "target"}},
		"annotated, same": {images.Image{Target: ocispec.Descriptor{Digest: d1.Digest, Annotations: map[string]string{"a": "b"}}, Labels: full}, true, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := record(ref(t, "r.example/app:v1"), d1, tc.pin)
			update, fields := changes(tc.have, want)
			if diff := cmp.Diff(tc.want, fields); diff != "" || !cmp.Equal(update, want) {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreatedHasNoEmptyLabels(t *testing.T) {
	t.Parallel()
	got := created(record(ref(t, "r.example/app:v1"), ocispec.Descriptor{}, false)).Labels
	if diff := cmp.Diff(map[string]string{labelCRI: managedByCRI, labelManaged: yes}, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"docker.io/library/nginx:latest": true, "r.example/app@" + digest.FromString("x").String(): true,
		"nginx": false, "sha256:" + digest.FromString("x").Encoded(): false, "import-2026": false, "": false,
	} {
		if _, got := nameOf(images.Image{Name: in}); got != want {
			t.Errorf("nameOf(%q) = %v, want %v", in, got, want)
		}
	}
}

func TestAwayContainerd(t *testing.T) {
	t.Parallel()
	d, err := New(Options{Address: t.TempDir() + "/absent"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Info(t.Context()); err == nil {
		t.Error("Info answers without containerd")
	}
	if got, err := d.snapshotterName(t.Context()); err == nil {
		t.Errorf("snapshotter = %q, want an error while nobody can be asked", got)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestSnapshotterOf(t *testing.T) {
	t.Parallel()
	const root = "/var/lib/containerd/io.containerd.snapshotter.v1."
	roots := map[string]string{
		contentPlugin + ".content": "/content", snapshotterPlugin + ".overlayfs": root + "overlayfs",
		snapshotterPlugin + ".zfs": "/zfs", snapshotterPlugin + ".stargz": "",
	}
	for dir, want := range map[string]string{
		root + "overlayfs": "overlayfs", "/zfs": "zfs", root + "stargz": "stargz", root + "gone": "", "/content": "", "": "",
	} {
		if got, ok := snapshotterOf(dir, roots); ok != (want != "") || ok && got != want {
			t.Errorf("snapshotter of %q = %q, %v, want %q", dir, got, ok, want)
		}
	}
}

// fakeCRI answers ImageFsInfo with an error, over a socket.
type fakeCRI struct {
	cri.UnimplementedImageServiceServer
	err error
}

func (f fakeCRI) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	return nil, f.err
}

// TestSnapshotterIsAsked: only a containerd without CRI gives the default. One whose CRI is
// not up yet says nothing.
func TestSnapshotterIsAsked(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"without CRI": {status.Error(codes.Unimplemented, "unknown service"), DefaultSnapshotter},
		"not up yet":  {status.Error(codes.Unavailable, "server is not initialized yet"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "s")
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			server := grpc.NewServer()
			cri.RegisterImageServiceServer(server, fakeCRI{err: tc.err})
			go func() { _ = server.Serve(listener) }()
			t.Cleanup(server.Stop)
			d, err := New(Options{Address: socket})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = d.Close() })
			if got, err := d.snapshotterName(t.Context()); got != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("snapshotter = %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestNameless(t *testing.T) {
	t.Parallel()
	d1, d2, id := digest.FromString("1"), digest.FromString("2"), digest.FromString("id").String()
	v1, v2, record := named{"r.example/app:v1", d1.String(), id}, named{"r.example/app:v2", d1.String(), id}, named{id, d1.String(), id}
	tests := map[string]struct {
		all, remove []named
		names       []string
		want        []digest.Digest
	}{
		"the last name":                   {[]named{v1, record}, []named{v1}, []string{v1.name}, []digest.Digest{d1}},
		"one of two names":                {[]named{v1, v2, record}, []named{v1}, []string{v1.name}, nil},
		"a digest that has no name":       {[]named{v1}, nil, []string{"r.example/app@" + d2.String()}, []digest.Digest{d2}},
		"a digest named elsewhere":        {[]named{v1}, nil, []string{"r.example/app@" + d1.String()}, nil},
		"a tag that is not there":         {[]named{v1}, nil, []string{"r.example/app:v3"}, nil},
		"a tag whose lease has no record": {nil, nil, []string{"r.example/app:v3", "r.example/app@" + d2.String()}, []digest.Digest{d2}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var names []imageref.Reference
			for _, s := range tc.names {
				names = append(names, ref(t, s))
			}
			if diff := cmp.Diff(tc.want, nameless(tc.all, tc.remove, names)); diff != "" {
				t.Errorf("digests (-want +got):\n%s", diff)
			}
		})
	}
}

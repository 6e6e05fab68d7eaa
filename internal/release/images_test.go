package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// epoch is a time for tests, 2026-01-02 03:04:05 UTC.
const epoch = "1767323045"

// here is this folder; tests change into others.
var here, _ = filepath.Abs(".")

// tree copies testdata/tree, so that building leaves nothing here.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(here, "testdata/tree"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// release runs the command in dir as a user would.
func release(t *testing.T, dir string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	t.Chdir(dir)
	var out, progress bytes.Buffer
	cmd := newCommand()
	cmd.SetOut(&out)
	cmd.SetErr(&progress)
	cmd.SetArgs(append([]string{"images"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return out.String(), progress.String(), err
}

// onlyIndex reads the one image of a layout.
func onlyIndex(t *testing.T, folder string) (v1.ImageIndex, v1.Descriptor) {
	t.Helper()
	top, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(top); err != nil {
		t.Errorf("%s is not valid: %v", folder, err)
	}
	m, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 {
		t.Fatalf("%s has %d images, want 1", folder, len(m.Manifests))
	}
	index, err := top.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index, m.Manifests[0]
}

// native is this machine's platform among those that the tests build for.
func native() string { return "linux/" + runtime.GOARCH }

func TestImages(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	dir := tree(t)
	stdout, stderr, err := release(t, dir, "--version", "v1.2.3-rc.1", "--platforms", "linux/amd64,linux/arm64,linux/arm/v7", "hello")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	index, top := onlyIndex(t, filepath.Join(dir, "dist/images/hello"))
	if got := top.Annotations["org.opencontainers.image.ref.name"]; got != "v1.2.3-rc.1" || top.MediaType != types.OCIImageIndex {
		t.Errorf("layout names %q of type %s", got, top.MediaType)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range m.Manifests {
		platforms = append(platforms, d.Platform.String())
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, d)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64", "linux/arm/v7"}, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
	if m.Annotations["org.opencontainers.image.version"] != "v1.2.3-rc.1" {
		t.Errorf("annotations of the index: %v", m.Annotations)
	}
	for _, want := range []string{"IMAGE", "PLATFORM", "SIZE", "hello  linux/amd64", "hello  linux/arm/v7", " MB  sha256:", top.Digest.String()} {
		if !strings.Contains(stdout, want) {
			t.Errorf("table has no %q:\n%s", want, stdout)
		}
	}
	for _, want := range []string{"version v1.2.3-rc.1, commit unknown, 1 images", "[1/1] hello", "linux/arm64 built in", "wrote dist/images/hello"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("progress has no %q:\n%s", want, stderr)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "dist/images/.*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Run("its binary runs", func(t *testing.T) { runNative(t, index) })
}

// checkImage looks at the configuration of one platform.
func checkImage(t *testing.T, image v1.Image, d v1.Descriptor) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Platform().String() != d.Platform.String() {
		t.Errorf("configuration says %s, index says %s", config.Platform(), d.Platform)
	}
	want := v1.Config{
		User: "65532:65532", Env: []string{"PATH=/usr/local/bin"}, Entrypoint: []string{"/usr/local/bin/hello"}, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title": "hello", "org.opencontainers.image.version": "v1.2.3-rc.1",
			"org.opencontainers.image.revision": "unknown", "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
			"org.opencontainers.image.licenses": "Apache-2.0", "org.opencontainers.image.vendor": "edgecache",
		},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if !config.Created.Equal(time.Unix(1767323045, 0)) {
		t.Errorf("created %s", config.Created)
	}
	m, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Labels, m.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != types.OCILayer || m.Config.MediaType != types.OCIConfigJSON || m.MediaType != types.OCIManifestSchema1 {
		t.Errorf("manifest %+v", m)
	}
}

// files reads an image's layer.
func files(t *testing.T, image v1.Image) (headers map[string]*tar.Header, contents map[string][]byte) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	headers, contents = map[string]*tar.Header{}, map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return headers, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
		if contents[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func runNative(t *testing.T, index v1.ImageIndex) {
	t.Helper()
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Platform.String() == native() })
	if runtime.GOOS != "linux" || i < 0 {
		t.Skipf("no image was built for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	image, err := index.Image(m.Manifests[i].Digest)
	if err != nil {
		t.Fatal(err)
	}
	_, contents := files(t, image)
	program := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(program, contents["usr/local/bin/hello"], 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program).Output()
	if err != nil {
		t.Fatal(err)
	}
	const want = "version=v1.2.3-rc.1\ncommit=unknown\nstate=clean\ndate=2026-01-02T03:04:05Z\nmajor= minor=\n"
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestLayer(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	dir := tree(t)
	if _, stderr, err := release(t, dir, "--version", "v1.0.0", "--platforms", native(), "edgecache-agent"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	index, _ := onlyIndex(t, filepath.Join(dir, "dist/images/edgecache-agent"))
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	headers, contents := files(t, image)
	modes := map[string]int64{}
	for name, h := range headers {
		modes[name] = h.Mode
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(time.Unix(1767323045, 0)) {
			t.Errorf("%s: owner %d:%d, time %s", name, h.Uid, h.Gid, h.ModTime)
		}
	}
	want := map[string]int64{
		"etc/": 0o755, "etc/group": 0o644, "etc/passwd": 0o644, "etc/ssl/": 0o755, "etc/ssl/certs/": 0o755,
		"etc/ssl/certs/ca-certificates.crt": 0o644, "home/": 0o755, "home/nonroot/": 0o755, "tmp/": 0o1777,
		"usr/": 0o755, "usr/local/": 0o755, "usr/local/bin/": 0o755, "usr/local/bin/edgecache-agent": 0o755,
	}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("files and modes (-want +got):\n%s", diff)
	}
	if !strings.Contains(string(contents["etc/passwd"]), "nonroot:x:65532:65532:") || !strings.Contains(string(contents["etc/group"]), "nonroot:x:65532:") {
		t.Errorf("accounts: %s%s", contents["etc/passwd"], contents["etc/group"])
	}
	roots := contents["etc/ssl/certs/ca-certificates.crt"]
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(roots) || bytes.Count(roots, []byte("BEGIN CERTIFICATE")) < 100 {
		t.Errorf("%d bytes of CA certificates", len(roots))
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != rootUser || config.Config.Labels["org.opencontainers.image.description"] == "" {
		t.Errorf("configuration %+v", config.Config)
	}
	size, err := downloadSize(image)
	if err != nil {
		t.Fatal(err)
	}
	im, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if want := m.Manifests[0].Size + im.Config.Size + im.Layers[0].Size; size != want {
		t.Errorf("download size %d, want %d", size, want)
	}
}

// TestSameDigestAnywhere builds the same source in two folders.
//
//nolint:paralleltest // changes the working directory
func TestSameDigestAnywhere(t *testing.T) {
	build := func(when, version string, change func(dir string)) v1.Hash {
		t.Setenv("SOURCE_DATE_EPOCH", when)
		dir := tree(t)
		change(dir)
		if _, stderr, err := release(t, dir, "--version", version, "--platforms", native(), "hello"); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		_, top := onlyIndex(t, filepath.Join(dir, "dist/images/hello"))
		return top.Digest
	}
	same := func(string) {}
	first := build(epoch, "v1.0.0", same)
	if again := build(epoch, "v1.0.0", func(dir string) {
		if err := os.Chtimes(filepath.Join(dir, "cmd/hello/main.go"), time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}); again != first {
		t.Errorf("digest %s, then %s", first, again)
	}
	for name, other := range map[string]v1.Hash{
		"time":    build("1767323046", "v1.0.0", same),
		"version": build(epoch, "v1.0.1", same),
		"source": build(epoch, "v1.0.0", func(dir string) {
			if err := os.WriteFile(filepath.Join(dir, "cmd/hello/more.go"), []byte("package main\n\nfunc init() { println(1) }\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}),
	} {
		if other == first {
			t.Errorf("another %s gives the same digest", name)
		}
	}
}

func TestAllBinariesAndPush(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	repo := strings.TrimPrefix(s.URL, "http://") + "/edge"
	dir := tree(t)
	out := t.TempDir()
	stdout, stderr, err := release(t, dir, "--version", "v2.0.0", "--platforms", native(), "--out", out, "--push", repo+"/")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	for _, bin := range []string{"hello", "edgecache-agent", "edgecache-scheduler"} {
		_, top := onlyIndex(t, filepath.Join(out, bin))
		ref, err := name.ParseReference(repo + "/" + bin + ":v2.0.0")
		if err != nil {
			t.Fatal(err)
		}
		pushed, err := remote.Index(ref, remote.WithContext(t.Context()))
		if err != nil {
			t.Fatalf("reading back %s: %v", ref, err)
		}
		if d, err := pushed.Digest(); err != nil || d != top.Digest {
			t.Errorf("pushed %s, %v, want %s", d, err, top.Digest)
		}
		if want := "pushed " + ref.String() + "@" + top.Digest.String(); !strings.Contains(stdout, want) {
			t.Errorf("output has no %q:\n%s", want, stdout)
		}
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 3 {
		t.Errorf("%d folders in %s, %v, want 3", len(entries), out, err)
	}
	if _, _, err := release(t, dir, "--version", "v2.0.0", "--platforms", native(), "--out", out, "--push", "127.0.0.1:1/x", "hello"); err == nil || !strings.Contains(err.Error(), "image hello: pushing 127.0.0.1:1/x/hello:v2.0.0") {
		t.Errorf("pushing to nowhere = %v", err)
	}
}

//nolint:paralleltest // changes the working directory
func TestWhatIsWrongIsSaid(t *testing.T) {
	broken := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "cmd/hello/broken.go"), []byte("package main\n\nvar x undefinedType\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(what string) func(string) {
		return func(dir string) {
			if err := os.RemoveAll(filepath.Join(dir, what)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		change func(dir string)
		args   []string
		want   string
	}{
		"unknown binary": {nil, []string{"nothing"}, `binary "nothing" is not a main package in cmd/; there are edgecache-agent, edgecache-scheduler, hello`},
		"library":        {nil, []string{"library"}, `binary "library" is not a main package`},
		"no cmd":         {remove("cmd"), nil, "no main package in a folder of"},
		"cmd without programs": {func(dir string) {
			remove("cmd/hello")(dir)
			remove("cmd/edgecache-agent")(dir)
			remove("cmd/edgecache-scheduler")(dir)
		}, nil, "nothing to pack"},
		"no module":        {remove("go.mod"), nil, "not inside a Go module"},
		"does not compile": {broken, []string{"--platforms", native(), "hello"}, "undefined: undefinedType"},
		"windows":          {nil, []string{"--platforms", "windows/amd64"}, `platform "windows/amd64": images are built for linux only`},
		"version":          {nil, []string{"--version", "1.0"}, `version "1.0": write it as v1.2.3 or v1.2.3-rc.1`},
		"unknown flag":     {nil, []string{"--platform", "linux/amd64"}, "unknown flag: --platform"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := tree(t)
			if tc.change != nil {
				tc.change(dir)
			}
			_, _, err := release(t, dir, tc.args...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want one containing %q", err, tc.want)
			}
		})
	}
	t.Run("time", func(t *testing.T) {
		t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
		if _, _, err := release(t, tree(t), "hello"); err == nil || !strings.Contains(err.Error(), `SOURCE_DATE_EPOCH "yesterday": must be seconds since 1970`) {
			t.Errorf("error = %v", err)
		}
	})
	t.Run("out is something else", func(t *testing.T) {
		dir := tree(t)
		keep := filepath.Join(dir, "mine/hello/thesis.txt")
		if err := os.MkdirAll(filepath.Dir(keep), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(keep, []byte("years of work"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, err := release(t, dir, "--platforms", native(), "--out", "mine", "hello")
		if err == nil || !strings.Contains(err.Error(), "mine/hello: folder exists and is no OCI layout") || strings.Contains(stderr, "built in") {
			t.Errorf("error = %v after\n%s", err, stderr)
		}
		if _, err := os.Stat(keep); err != nil {
			t.Errorf("the folder's content is gone: %v", err)
		}
	})
}

func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"images", "--help"})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go run ./internal/release images", "SOURCE_DATE_EPOCH", "--push", "no container runtime", "linux/arm/v7"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help has no %q", want)
		}
	}
}

// TestLayoutIsReplaced: nothing of the old image stays.
func TestLayoutIsReplaced(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	dir := tree(t)
	for _, version := range []string{"v1.0.0", "v1.0.1"} {
		if _, stderr, err := release(t, dir, "--version", version, "--platforms", native(), "hello"); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		_, top := onlyIndex(t, filepath.Join(dir, "dist/images/hello"))
		if got := top.Annotations["org.opencontainers.image.ref.name"]; got != version {
			t.Errorf("layout holds %s, want %s", got, version)
		}
	}
	blobs, err := filepath.Glob(filepath.Join(dir, "dist/images/hello/blobs/sha256/*"))
	if err != nil || len(blobs) != 4 {
		t.Errorf("%d blobs, want index, manifest, configuration and layer", len(blobs))
	}
}

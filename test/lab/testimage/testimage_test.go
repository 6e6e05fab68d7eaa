package testimage

import (
	"archive/tar"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"edgecache.dev/test/lab/toolchain"
)

func digestOf(t *testing.T, o Object, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := o.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func imageDigest(t *testing.T, s Spec) string {
	t.Helper()
	image, err := Image(s)
	return digestOf(t, image, err)
}

func TestTheSameSpecIsTheSameImage(t *testing.T) {
	t.Parallel()
	spec := func(seed uint64) Spec { return Spec{Layers: []Random{{seed, 1000}, {seed + 1, 5 << 20}}} }
	if first, second := imageDigest(t, spec(1)), imageDigest(t, spec(1)); first != second {
		t.Error("the same seeds gave different images")
	}
	if imageDigest(t, spec(1)) == imageDigest(t, spec(2)) {
		t.Error("different seeds gave the same image")
	}
	labelled := spec(1)
	labelled.Labels = map[string]string{"a": "b"}
	if imageDigest(t, spec(1)) == imageDigest(t, labelled) {
		t.Error("a label changed nothing")
	}
}

func TestRandomLayersHaveTheirSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 1, fileSize, fileSize + 1, 10 << 20} {
		layer, err := Random{Seed: 7, Size: size}.Layer()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Layer(layer); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		if got := contentSize(t, layer); got != size {
			t.Errorf("files hold %d bytes, want %d", got, size)
		}
		compressed, err := layer.Size()
		if err != nil || compressed > size+size/100+20_000 {
			t.Errorf("%d bytes take %d in the registry, %v", size, compressed, err)
		}
	}
}

func contentSize(t *testing.T, layer v1.Layer) int64 {
	t.Helper()
	content, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	var sum int64
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return sum
		}
		if err != nil {
			t.Fatal(err)
		}
		sum += header.Size
	}
}

func TestAnIndexHasOneImagePerPlatform(t *testing.T) {
	t.Parallel()
	index, err := Index(Spec{Layers: []Random{{1, 1000}}}, Platforms()...)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	seen := map[v1.Hash]bool{}
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		seen[m.Digest] = true
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64/v8", "linux/arm/v7"}, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
	if len(seen) != 3 {
		t.Error("two platforms share an image")
	}
}

// memory is a Registry in this process.
type memory struct{ *httptest.Server }

func (m memory) Addr() string              { return strings.TrimPrefix(m.URL, "http://") }
func (m memory) Direct() http.RoundTripper { return m.Client().Transport }

func TestPush(t *testing.T) {
	t.Parallel()
	server := memory{httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))}
	t.Cleanup(server.Close)
	index, err := Index(Spec{Layers: []Random{{1, 100_000}}}, Platforms()...)
	want := digestOf(t, index, err)
	pushed, err := Push(t.Context(), server, "team/app:v1", index)
	if err != nil {
		t.Fatal(err)
	}
	if pushed.Digest != want || pushed.Name != server.Addr()+"/team/app:v1" || pushed.ByDigest() != server.Addr()+"/team/app@"+want {
		t.Errorf("pushed %+v", pushed)
	}
	for _, reference := range []string{pushed.Name, pushed.ByDigest()} {
		ref, err := name.ParseReference(reference, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		image, err := remote.Image(ref, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(image); err != nil {
			t.Errorf("%s: %v", reference, err)
		}
	}
}

func TestProgramsRunAndEnd(t *testing.T) {
	t.Parallel()
	tools, err := toolchain.Here(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	hello, err := Hello.Build(t.Context(), tools, "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), hello, "-for", "1ms", "-status", "3").Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 || !strings.HasPrefix(string(out), "hello from ") {
		t.Errorf("hello: %q, %v", out, err)
	}
	pause, err := Pause.Build(t.Context(), tools, "")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), pause)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Asked before it listens, the signal itself ends it.
	if err := command.Wait(); err != nil && err.Error() != "signal: terminated" {
		t.Errorf("pause: %v", err)
	}
	if _, err := Hello.Build(t.Context(), tools, "arm64"); err != nil {
		t.Errorf("cross-compiling: %v", err)
	}
	image, err := Image(Spec{Program: hello, Args: []string{"-for", "1s"}, Layers: []Random{{1, 1000}}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/app", "-for", "1s"}, append(config.Config.Entrypoint, config.Config.Cmd...)); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
}

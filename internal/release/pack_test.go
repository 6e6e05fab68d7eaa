package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/resolve"
)

// sample is a stamp and a program for tests that pack without compiling.
func sample(t *testing.T) (stamp, binary, string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("not really a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := stamp{version: "v1.2.3", commit: "abc", time: time.Unix(1767323045, 0).UTC()}
	return s, binary{name: "sample", description: "A sample", user: nonrootUser}, program
}

// sampleBuild packs the sample for a platform.
func sampleBuild(t *testing.T, platform string) build {
	t.Helper()
	s, b, program := sample(t)
	p, err := platforms.Parse(platform)
	if err != nil {
		t.Fatal(err)
	}
	p = platforms.Normalize(p)
	image, err := packImage(b, s, p, program)
	if err != nil {
		t.Fatal(err)
	}
	return build{platform: p, image: image}
}

// sampleIndex packs the sample for several.
func sampleIndex(t *testing.T, list ...string) v1.ImageIndex {
	t.Helper()
	s, b, _ := sample(t)
	var builds []build
	for _, p := range list {
		builds = append(builds, sampleBuild(t, p))
	}
	index, err := packIndex(b, s, builds)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestTarIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	sum := func(change func(*stamp, *binary, string)) [32]byte {
		s, b, program := sample(t)
		change(&s, &b, program)
		file := program + ".tar"
		if err := writeTar(file, b, s, program); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(content)
	}
	same := sum(func(*stamp, *binary, string) {})
	for name, tc := range map[string]struct {
		change func(*stamp, *binary, string)
		differ bool
	}{
		"nothing":                {func(*stamp, *binary, string) {}, false},
		"the program's own time": {func(_ *stamp, _ *binary, p string) { _ = os.Chtimes(p, time.Now(), time.Now().Add(time.Hour)) }, false},
		"the program's own mode": {func(_ *stamp, _ *binary, p string) { _ = os.Chmod(p, 0o700) }, false},
		"the version":            {func(s *stamp, _ *binary, _ string) { s.version = "v9.9.9" }, false}, // stands in the configuration
		"the time":               {func(s *stamp, _ *binary, _ string) { s.time = time.Unix(1, 0) }, true},
		"the name":               {func(_ *stamp, b *binary, _ string) { b.name = "other" }, true},
		"the program":            {func(_ *stamp, _ *binary, p string) { _ = os.WriteFile(p, []byte("changed"), 0o600) }, true},
	} {
		if got := sum(tc.change); (got != same) != tc.differ {
			t.Errorf("after a change of %s the layer differs: %v, want %v", name, got != same, tc.differ)
		}
	}
}

// TestParentsComeFirst: some runtimes make missing parents themselves, with other modes.
func TestParentsComeFirst(t *testing.T) {
	t.Parallel()
	s, b, program := sample(t)
	if err := writeTar(program+".tar", b, s, program); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(program + ".tar")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{"./": true}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if parent := path.Dir(strings.TrimSuffix(h.Name, "/")) + "/"; !seen[parent] {
			t.Errorf("%s comes before %s", h.Name, parent)
		}
		if seen[h.Name] || strings.HasPrefix(h.Name, "/") || h.Format != tar.FormatUSTAR {
			t.Errorf("%s: twice, absolute or in another format", h.Name)
		}
		if isDir := strings.HasSuffix(h.Name, "/"); isDir != (h.Typeflag == tar.TypeDir) || !isDir && h.Typeflag != tar.TypeReg {
			t.Errorf("%s has type %c", h.Name, h.Typeflag)
		}
		seen[h.Name] = true
	}
}

func TestRootCertificates(t *testing.T) {
	t.Parallel()
	rest, n := rootCertificates(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !cert.IsCA || block.Type != "CERTIFICATE" {
			t.Errorf("certificate %d: CA %v, %v", n, cert != nil && cert.IsCA, err)
		}
		n++
	}
	if n < 100 || len(bytes.TrimSpace(rest)) > 0 {
		t.Errorf("%d certificates, %d bytes left", n, len(rest))
	}
	if !bytes.Equal(rootCertificates(), rootCertificates()) {
		t.Error("differ from call to call")
	}
}

func TestPackedImagesAreValid(t *testing.T) {
	t.Parallel()
	list := []string{"linux/amd64", "linux/arm64", "linux/arm/v6", "linux/s390x"}
	folder := filepath.Join(t.TempDir(), "sample")
	if err := writeLayout(folder, "v1.2.3", sampleIndex(t, list...)); err != nil {
		t.Fatal(err)
	}
	index, _ := onlyIndex(t, folder) // validates what is on disk
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for i, platform := range list {
		image, err := index.Image(m.Manifests[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Platform().String() != platform || len(config.History) != 1 || len(config.RootFS.DiffIDs) != 1 {
			t.Errorf("%s: configuration %+v", platform, config)
		}
		if got := config.Config.Labels["org.opencontainers.image.description"]; got != "A sample" {
			t.Errorf("description %q", got)
		}
	}
}

func TestPackingAnAbsentProgram(t *testing.T) {
	t.Parallel()
	s, b, program := sample(t)
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if _, err := packImage(b, s, platforms.MustParse("linux/amd64"), program); err == nil || !strings.Contains(err.Error(), "adding usr/local/bin/sample") {
		t.Errorf("error = %v", err)
	}
}

func TestReplaceable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	for _, name := range []string{"empty", "layout", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{file, filepath.Join(dir, "layout/oci-layout"), filepath.Join(dir, "other/thesis.txt")} {
		if err := os.WriteFile(name, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"absent": "", "absent/deeper": "", "empty": "", "layout": "", "other": "is no OCI layout", "file": "looking at what is there",
	} {
		err := replaceable(filepath.Join(dir, name))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	// A failure leaves what was there and nothing beside it.
	if err := writeLayout(filepath.Join(dir, "other"), "v1.0.0", sampleIndex(t, "linux/amd64")); err == nil {
		t.Error("replaced a folder of somebody else")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d entries, %v, want the 4 of before", len(entries), err)
	}
}

// TestOurImagesResolve reads a pushed image back with the product's own resolver.
func TestOurImagesResolve(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer s.Close()
	where := strings.TrimPrefix(s.URL, "http://") + "/edge/sample:v1.2.3"
	index := sampleIndex(t, "linux/amd64", "linux/arm64", "linux/arm/v7")
	if err := push(t.Context(), where, index); err != nil {
		t.Fatal(err)
	}
	resolver, err := resolve.New(access.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	ref, err := imageref.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	image, err := resolver.Resolve(t.Context(), ref, keychain.Keychain{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range image.Platforms {
		got = append(got, p.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64", "linux/arm/v7"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
	want, err := index.Digest()
	if err != nil || image.Digest.String() != want.String() {
		t.Errorf("digest %s, want %s, %v", image.Digest, want, err)
	}
	size, err := downloadSize(sampleBuild(t, "linux/amd64").image)
	if err != nil {
		t.Fatal(err)
	}
	if resolved, ok := image.SizeFor(platforms.MustParse("linux/amd64")); !ok || resolved != size {
		t.Errorf("size %d, the table says %d", resolved, size)
	}
	if err := push(t.Context(), "not a reference", index); err == nil || !strings.Contains(err.Error(), "pushing") {
		t.Errorf("pushing to nonsense: %v", err)
	}
}

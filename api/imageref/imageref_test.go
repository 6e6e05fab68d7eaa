package imageref

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

const (
	hex64  = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	sha    = "sha256:" + hex64
	sha512 = "sha512:" + hex64 + hex64
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		canonical, familiar, registry, repository string
	}{
		"nginx":                           {"docker.io/library/nginx:latest", "nginx:latest", "docker.io", "library/nginx"},
		"nginx:1.27":                      {"docker.io/library/nginx:1.27", "nginx:1.27", "docker.io", "library/nginx"},
		"index.docker.io/library/nginx:1": {"docker.io/library/nginx:1", "nginx:1", "docker.io", "library/nginx"},
		"org/app":                         {"docker.io/org/app:latest", "org/app:latest", "docker.io", "org/app"},
		"registry.example/app:v1":         {"registry.example/app:v1", "registry.example/app:v1", "registry.example", "app"},
		"localhost/app":                   {"localhost/app:latest", "localhost/app:latest", "localhost", "app"},
		"registry.example:5000/a/b/c:x_Y": {"registry.example:5000/a/b/c:x_Y", "registry.example:5000/a/b/c:x_Y", "registry.example:5000", "a/b/c"},
		"[fd00::1]:5000/app:v1":           {"[fd00::1]:5000/app:v1", "[fd00::1]:5000/app:v1", "[fd00::1]:5000", "app"},
		"app@" + sha:                      {"docker.io/library/app@" + sha, "app@" + sha, "docker.io", "library/app"},
		"registry.example/app:v1@" + sha:  {"registry.example/app@" + sha, "registry.example/app@" + sha, "registry.example", "app"},
	}
	for in, want := range tests {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			r, err := Parse(in)
			if err != nil {
				t.Fatal(err)
			}
			got := [...]string{r.String(), r.Familiar(), r.Registry(), r.Repository()}
			if diff := cmp.Diff([...]string{want.canonical, want.familiar, want.registry, want.repository}, got); diff != "" {
				t.Errorf("canonical, familiar, registry, repository (-want +got):\n%s", diff)
			}
			if again, err := Parse(r.Familiar()); err != nil || again != r {
				t.Errorf("Parse(%q) = %v, %v, want %v", r.Familiar(), again, err, r)
			}
		})
	}
}

func TestParseSaysWhatToFix(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                               "reference is empty",
		"https://registry.example/app":   `must not have a scheme: leave out "https://"`,
		"registry.example/my app:v1":     "must not contain spaces",
		"registry.example/app:v1\n":      "must not contain spaces",
		"registry.example/App:v1":        "repository name must be lowercase",
		"App":                            "repository name must be lowercase",
		"registry.example/app:":          "tag is empty",
		"registry.example/app:v1@sha256": "must be sha256: and 64",
		"app@" + sha512:                  "must be sha256: and 64",
		"app@sha256:ABC":                 "must be sha256: and 64",
		hex64:                            "64-byte hexadecimal",
		"-app":                           "not a valid image reference",
		strings.Repeat("a", 256):         "256 characters, at most 255",
		strings.Repeat("a", 235):         "canonical form has 260",
	}
	for in, want := range tests {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(in)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Parse(%q) error = %v, want one containing %q", in, err, want)
			}
		})
	}
}

func TestDigestWins(t *testing.T) {
	t.Parallel()
	r := mustParse(t, "registry.example/app:v1@"+sha)
	if r.Tag() != "" || r.Digest() != sha {
		t.Errorf("tag %q digest %q, want no tag and %q", r.Tag(), r.Digest(), sha)
	}
	if by := mustParse(t, "registry.example/app:v2").WithDigest(sha); by != r {
		t.Errorf("WithDigest = %v, want %v", by, r)
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{"app": true, "app:latest": true, "app:v1": false, "app:latest-x": false, "app@" + sha: false} {
		if got := mustParse(t, in).Moves(); got != want {
			t.Errorf("Parse(%q).Moves() = %v, want %v", in, got, want)
		}
	}
}

func TestTextRoundTrip(t *testing.T) {
	t.Parallel()
	want := map[Reference]int{mustParse(t, "nginx"): 1}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got map[Reference]int
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Reference{})); diff != "" {
		t.Errorf("round trip (-want +got):\n%s", diff)
	}
	if err := new(Reference).UnmarshalText([]byte("a b")); err == nil || !strings.Contains(err.Error(), `"a b"`) {
		t.Errorf("UnmarshalText error = %v, want one naming the value", err)
	}
}

func TestZero(t *testing.T) {
	t.Parallel()
	var r Reference
	if !r.IsZero() || r.String() != "" || r.Familiar() != "" {
		t.Errorf("zero Reference = %q, familiar %q", r.String(), r.Familiar())
	}
}

// FuzzParse holds Parse to distribution/reference, the grammar of containerd and the
// kubelet, and the CRD's pattern to Parse.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"nginx", "a/b:c", "registry.example:5000/app:v1@" + sha, "[::1]:5000/a", "A/b", "a:", "@", "a@" + sha512, hex64, "localhost/x", "a__b/c-d.e:T-1"} {
		f.Add(s)
	}
	pattern := regexp.MustCompile(Pattern)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if (err == nil) != acceptable(s) {
			t.Fatalf("Parse(%q) error = %v, distribution/reference accepts: %v", s, err, acceptable(s))
		}
		if err != nil {
			return
		}
		if !pattern.MatchString(s) {
			t.Errorf("Pattern refuses %q, which Parse accepts", s)
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("Parse(%q) = %v, %v, want %v", r.String(), again, err, r)
		}
		if again, err := Parse(r.Familiar()); err != nil || again != r {
			t.Errorf("Parse(familiar %q) = %v, %v, want %v", r.Familiar(), again, err, r)
		}
	})
}

// acceptable restates the contract with the library alone.
func acceptable(s string) bool {
	named, err := reference.ParseDockerRef(s)
	if err != nil || len(s) > MaxLength || len(named.String()) > MaxLength {
		return false
	}
	d, ok := named.(reference.Digested)
	return !ok || (d.Digest().Algorithm() == digest.SHA256 && d.Digest().Validate() == nil)
}

func mustParse(t *testing.T, s string) Reference {
	t.Helper()
	r, err := Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return r
}

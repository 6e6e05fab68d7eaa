package keychain

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
)

// The model restates the kubelet's rules for a key without scheme and user-info, in the
// plainest way there is.

// modelMatches says whether host/path of a key stands for a repository.
func modelMatches(key, repository string) bool {
	keyHost, keyPath, _ := strings.Cut(key, "/")
	host, repoPath, _ := strings.Cut(repository, "/")
	keyName, keyPort, _ := strings.Cut(keyHost, ":")
	name, port, _ := strings.Cut(host, ":")
	if keyPort != port || strings.Count(keyName, ".") != strings.Count(name, ".") || !strings.HasPrefix(repoPath, keyPath) {
		return false
	}
	// A slash is the only character that a star of path.Match does not match.
	ok, err := path.Match(strings.ReplaceAll(keyName, ".", "/"), strings.ReplaceAll(name, ".", "/"))
	return ok && err == nil
}

// modelFor gives the users for a repository, in order.
func modelFor(keys []string, repository string) []string {
	type found struct{ key, user string }
	var all []found
	for i, key := range keys {
		if modelMatches(key, repository) {
			all = append(all, found{key, strconv.Itoa(i)})
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(b.key, a.key) })
	var users []string
	for _, f := range all {
		users = append(users, f.user)
	}
	if len(users) == 0 && strings.HasPrefix(repository, "docker.io/") {
		aliases := []string{"registry-1.docker.io", "index.docker.io"}
		for _, alias := range aliases {
			for i, key := range keys {
				if key == alias {
					users = append(users, strconv.Itoa(i))
				}
			}
		}
	}
	return users
}

// TestModel compares with the model over random Secrets.
func TestModel(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	hosts := []string{"docker.io", "index.docker.io", "registry-1.docker.io", "*.docker.io", "*.io", "registry.example", "*.example", "reg*.example", "registry.example:5000", "*.example:5000", "localhost:5000", "*", "a.b.c", "*.*.c"}
	paths := []string{"", "/team", "/team/", "/team/app", "/library", "/team/app/deep"}
	repositories := []string{"docker.io/library/nginx", "docker.io/team/app", "registry.example/team/app", "registry.example/teamwork/app", "registry.example:5000/team/app", "localhost:5000/team/app", "a.b.c/team/app", "quay.io/team/app", "x.docker.io/team/app", "index.docker.io/team/app"}
	hits := 0
	for range 20000 {
		var keys []string
		var secrets []corev1.Secret
		for i := range 1 + r.IntN(4) {
			key := hosts[r.IntN(len(hosts))] + paths[r.IntN(len(paths))]
			keys = append(keys, key)
			secrets = append(secrets, secret(strconv.Itoa(i), config(key, strconv.Itoa(i))))
		}
		k, err := Parse(secrets...)
		if err != nil {
			t.Fatal(err)
		}
		repository := repositories[r.IntN(len(repositories))]
		want := modelFor(keys, repository)
		if diff := gocmp.Diff(want, users(t, k.ForRepository(repository))); diff != "" {
			t.Fatalf("seed %d, keys %q for %s (-want +got):\n%s", seed, keys, repository, diff)
		}
		if len(want) > 0 {
			hits++
		}
	}
	if hits < 1000 {
		t.Errorf("only %d of 20000 matched anything", hits)
	}
}

// TestOneKeychainForMany is for the race detector.
func TestOneKeychainForMany(t *testing.T) {
	t.Parallel()
	k, err := Parse(secret("a", config("registry.example", "a", "*.example", "b")))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				creds := k.ForRepository("registry.example/app")
				if len(creds) != 2 {
					t.Errorf("%d credentials", len(creds))
				}
				creds[0] = Credential{} // a caller's own copy
				_ = Union(k, k).Len() + len(k.String())
			}
		})
	}
	wg.Wait()
}

// TestOfLeavesItsInputAlone: sorting happens in a copy.
func TestOfLeavesItsInputAlone(t *testing.T) {
	t.Parallel()
	in := []Credential{New("a.test", authn.AuthConfig{Username: "a"}), New("b.test", authn.AuthConfig{Username: "b"})}
	_ = Of(in...)
	if in[0].Pattern() != "a.test" {
		t.Error("the caller's slice was sorted")
	}
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"registry.example":                 "registry.example",
		"https://registry.example":         "registry.example",
		"http://registry.example:5000/":    "registry.example:5000",
		"HTTPS://registry.example":         "HTTPS://registry.example", // as the kubelet: only lowercase schemes are known
		"https://u:p@registry.example/v1/": "registry.example",
		"registry.example/v1/team":         "registry.example/team",
		"registry.example/v2/":             "registry.example",
		"registry.example/v2":              "registry.example/v2",
		"registry.example/v20/team":        "registry.example/v20/team",
		"registry.example/team?a=b#c":      "registry.example/team",
		"registry.example/te%61m":          "registry.example/team",
		"[fd00::1]:5000/team":              "[fd00::1]:5000/team",
		"[fd00::1":                         "",
		"%zz":                              "",
		"":                                 "",
	} {
		if got := normalize(key); got != want {
			t.Errorf("normalize(%q) = %q, want %q", key, got, want)
		}
	}
}

func BenchmarkFor(b *testing.B) {
	var creds []Credential
	for i := range 200 {
		creds = append(creds, New(fmt.Sprintf("registry%d.example/team", i), authn.AuthConfig{Username: "u"}))
	}
	k := Of(creds...)
	b.ReportAllocs()
	for b.Loop() {
		if len(k.ForRepository("registry77.example/team/app")) != 1 {
			b.Fatal("not found")
		}
	}
}

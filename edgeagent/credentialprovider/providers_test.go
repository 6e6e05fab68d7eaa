package credentialprovider

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "k8s.io/kubelet/pkg/apis/credentialprovider/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
)

// Variables that make the test's own binary a plugin, and tell it what to do.
const (
	asPlugin = "CREDENTIALPROVIDER_TEST_SAY" // what to answer
	askedLog = "CREDENTIALPROVIDER_TEST_LOG" // a file that gets each request as a line
)

func TestMain(m *testing.M) {
	if say := os.Getenv(asPlugin); say != "" {
		os.Exit(plugin(say))
	}
	os.Exit(m.Run())
}

// plugin is a credential provider: it notes the request, and answers.
func plugin(say string) int {
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 1
	}
	f, err := os.OpenFile(os.Getenv(askedLog), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	defer f.Close() //nolint:errcheck // the process ends
	fmt.Fprintf(f, "%s %s\n", request, strings.Join(os.Args[1:], " "))
	if say == "fail" {
		fmt.Fprintln(os.Stderr, "s3cret: token expired")
		return 3
	}
	fmt.Println(say)
	return 0
}

// says is the answer of a plugin.
func says(kind api.PluginCacheKeyType, duration string, auth string) string {
	if duration != "" {
		duration = fmt.Sprintf(`"cacheDuration": %q,`, duration)
	}
	return fmt.Sprintf(`{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
		"cacheKeyType": %q, %s "auth": %s}`, kind, duration, auth)
}

// node is a node with one plugin, which is this test's own binary.
type node struct {
	*Providers
	log string
}

func newNode(t *testing.T, say string, match ...string) *node {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "cloud")); err != nil {
		t.Fatal(err)
	}
	n := &node{log: filepath.Join(dir, "asked")}
	c, err := json.Marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
		"providers": []any{map[string]any{
			"name": "cloud", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "matchImages": match, "defaultCacheDuration": "10m",
			"args": []string{"get", "login"},
			"env":  []any{map[string]string{"name": asPlugin, "value": say}, map[string]string{"name": askedLog, "value": n.log}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.Providers, err = Load(configFile(t, string(c)), dir); err != nil {
		t.Fatal(err)
	}
	return n
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// asked gives the requests that the plugin got.
func (n *node) asked(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(n.log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")[:strings.Count(string(b), "\n")]
}

func (n *node) logins(t *testing.T, image, host string) ([]fetch.Login, error) {
	t.Helper()
	ref, err := imageref.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	return n.For(t.Context(), ref, host)
}

// TestAsked: the plugin gets the kubelet's request, and what it says is used most specific
// first.
func TestAsked(t *testing.T) {
	t.Parallel()
	n := newNode(t, says("Image", "", `{
		"r.example": {"username": "all", "password": "1"}, "https://r.example/team": {"username": "team", "password": "2"},
		"other.example": {"username": "other", "password": "3"}}`), "*.example")
	got, err := n.logins(t, "r.example/team/app:v1", "r.example")
	want := []fetch.Login{{User: "team", Secret: "2"}, {User: "all", Secret: "1"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, logins (-want +got):\n%s", err, diff)
	}
	request := `{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"r.example/team/app"`
	if asked := n.asked(t); len(asked) != 1 || !strings.HasPrefix(asked[0], request) || !strings.HasSuffix(asked[0], "} get login") {
		t.Errorf("asked: %q", asked)
	}
	if got, err := n.logins(t, "r.test/app:v1", "r.test"); err != nil || len(got) != 0 || len(n.asked(t)) != 1 {
		t.Errorf("an image that it is not for: %v, %v, asked %d times", got, err, len(n.asked(t)))
	}
	if got, err := n.logins(t, "r.test/app:v1", "other.example"); err != nil || len(got) != 1 || got[0].User != "other" {
		t.Errorf("a mirror: %v, %v; want what is for the mirror", got, err)
	}
}

func TestDockerHub(t *testing.T) {
	t.Parallel()
	n := newNode(t, says("Registry", "", `{"https://index.docker.io/v1/": {"username": "hub", "password": "1"}}`), "docker.io")
	for _, host := range []string{"docker.io", dockerHub} {
		if got, err := n.logins(t, "nginx:1", host); err != nil || len(got) != 1 || got[0].User != "hub" {
			t.Errorf("at %s: %v, %v", host, got, err)
		}
	}
}

// TestCache: an answer is good for what its cacheKeyType says, for as long as it says.
func TestCache(t *testing.T) {
	t.Parallel()
	const auth = `{"*.example": {"username": "u", "password": "p"}}`
	images := []string{"a.example/app:v1", "a.example/app:v2", "a.example/other:v1", "b.example/app:v1"}
	for name, tc := range map[string]struct {
		say  string
		want int // requests for the images, each asked for twice
	}{
		"by image":                {says("Image", "1h", auth), 3},
		"by registry":             {says("Registry", "1h", auth), 2},
		"for all":                 {says("Global", "1h", auth), 1},
		"for the default time":    {says("Global", "", auth), 1},
		"not at all":              {says("Global", "0s", auth), 8},
		"what it has no word for": {says("Planet", "1h", auth), 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, tc.say, "*.example")
			var wg sync.WaitGroup
			for _, image := range append(images, images...) {
				host, _, _ := strings.Cut(image, "/")
				wg.Go(func() {
					got, err := n.logins(t, image, host)
					if (err != nil) != strings.Contains(tc.say, "Planet") || err == nil && len(got) != 1 {
						t.Errorf("%s: %v, %v", image, got, err)
					}
				})
			}
			wg.Wait()
			if got := len(n.asked(t)); got != tc.want {
				t.Errorf("asked %d times, want %d", got, tc.want)
			}
		})
	}
}

func TestCacheEnds(t *testing.T) {
	t.Parallel()
	n := newNode(t, says("Global", "1h", `{"r.example": {"username": "u", "password": "p"}}`), "r.example")
	now := time.Now()
	n.all[0].clock = func() time.Time { return now }
	for i, after := range []time.Duration{0, 59 * time.Minute, time.Minute} {
		now = now.Add(after)
		if _, err := n.logins(t, "r.example/app:v1", "r.example"); err != nil {
			t.Fatal(err)
		}
		if got, want := len(n.asked(t)), []int{1, 1, 2}[i]; got != want {
			t.Errorf("after %s more: asked %d times, want %d", after, got, want)
		}
	}
}

// TestFailures: what went wrong is said, and nothing that a plugin wrote.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ say, want string }{
		"it fails":         {"fail", "exit status 3"},
		"no JSON":          {"password=s3cret", "no JSON of a CredentialProviderResponse"},
		"another version":  {`{"apiVersion": "v9", "kind": "CredentialProviderResponse", "auth": {"r": {"password": "s3cret"}}}`, `apiVersion "v9"`},
		"another kind":     {`{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "Login"}`, `kind "Login"`},
		"no word of reuse": {says("", "", `{"r.example": {"password": "s3cret"}}`), `cacheKeyType ""`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newNode(t, tc.say, "r.example").logins(t, "r.example/app:v1", "r.example")
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "credential provider cloud") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error = %v, want %q", err, tc.want)
			}
		})
	}
}

// TestMatches has the examples of the kubelet's documentation.
func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, image string
		want           bool
	}{
		{"123456789.dkr.ecr.us-east-1.amazonaws.com", "123456789.dkr.ecr.us-east-1.amazonaws.com/app", true},
		{"*.azurecr.io", "shop.azurecr.io/pos", true},
		{"*.azurecr.io", "a.shop.azurecr.io/pos", false},
		{"*.*.registry.io", "foo.bar.registry.io/a", true},
		{"foo.registry.io:8080/path", "foo.registry.io:8080/path/app", true},
		{"foo.registry.io:8080/path", "foo.registry.io/path/app", false},
		{"registry.io/path", "registry.io/other", false},
		{"gcr.io", "eu.gcr.io/a", false},
		{"*", "gcr.io/a", false},
		{"docker.io", "docker.io/library/nginx", true},
		{"index.docker.io", "docker.io/library/nginx", true},
	} {
		if got := matches(tc.pattern, tc.image); got != tc.want {
			t.Errorf("%s stands for %s: %v, want %v", tc.pattern, tc.image, got, tc.want)
		}
	}
}

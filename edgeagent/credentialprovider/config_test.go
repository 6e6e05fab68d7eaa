package credentialprovider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n"

// programs is a folder with the program cloud and the plain file text.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"cloud": 0o755, "text": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// one is a configuration with one provider, with replacements in it.
func one(replace ...string) string {
	return head + strings.NewReplacer(replace...).Replace(`providers:
- name: cloud
  matchImages: ["*.r.example"]
  defaultCacheDuration: 1h
  apiVersion: credentialprovider.kubelet.k8s.io/v1
`)
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"another version":     {strings.Replace(one(), "kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v9", 1), `apiVersion "kubelet.config.k8s.io/v9"`},
		"an unknown field":    {one("matchImages", "images"), `unknown field "images"`},
		"no providers":        {head, "providers: Required"},
		"a path as name":      {one("cloud", "../cloud"), `providers[0].name: Invalid value: "../cloud"`},
		"a missing program":   {one("cloud", "none"), "--image-credential-provider-bin-dir"},
		"no program":          {one("cloud", "text"), "text is no program"},
		"no images":           {one(`["*.r.example"]`, "[]"), "providers[0].matchImages: Required"},
		"an image as a URL":   {one("*.r.example", "https://r.example"), "providers[0].matchImages[0]: Invalid"},
		"no duration":         {one("  defaultCacheDuration: 1h\n", ""), "providers[0].defaultCacheDuration: Required"},
		"a negative duration": {one("1h", "-1h"), "must not be negative"},
		"an unknown protocol": {one("k8s.io/v1\n", "k8s.io/v2\n"), "providers[0].apiVersion: Unsupported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Load(configFile(t, tc.text), programs(t)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), ""); err == nil {
		t.Error("a file that is not there: no error")
	}
}

// TestTokens: a plugin that must have a service account's token is skipped, one that can do
// without is asked.
func TestTokens(t *testing.T) {
	t.Parallel()
	const tokens = "  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: "
	for required, want := range map[string][]string{"true": {"cloud"}, "false": nil} {
		p, err := Load(configFile(t, one()+tokens+required+"}\n"), programs(t))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, p.Skipped()); diff != "" || len(p.all) != 1-len(want) {
			t.Errorf("required %s: %d to ask, skipped (-want +got):\n%s", required, len(p.all), diff)
		}
	}
}

// TestFolder: all files of a folder count, in the order of their names, and names of
// plugins are unique among them.
func TestFolder(t *testing.T) {
	t.Parallel()
	dir, bin := t.TempDir(), programs(t)
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(dir, bin); err == nil {
		t.Error("an empty folder: no error")
	}
	put("10.yaml", one())
	put("notes.txt", "no configuration")
	if p, err := Load(dir, bin); err != nil || len(p.all) != 1 {
		t.Errorf("%v, %v, want one provider", p, err)
	}
	put("20.yml", one())
	if _, err := Load(dir, bin); err == nil || !strings.Contains(err.Error(), `20.yml: providers[0].name: Duplicate value: "cloud"`) {
		t.Errorf("error = %v", err)
	}
}

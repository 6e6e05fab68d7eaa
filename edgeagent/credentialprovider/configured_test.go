package credentialprovider

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edgecache.dev/api/imageref"
)

// TestConfigured: a configuration that is not there, and then is wrong, is done without and said,
// and used once it is right.
func TestConfigured(t *testing.T) {
	t.Parallel()
	bin, path := programs(t), filepath.Join(t.TempDir(), "providers.yaml")
	name, err := imageref.Parse("a.other.example/app:v1") // of no plugin
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		loaded := 0
		c := Configure(path, bin, func(*Providers) { loaded++ })
		for _, step := range []struct{ write, trouble string }{
			{"", "no such file"}, {one("cloud", "none"), "no such file"}, {one("defaultCacheDuration: 1h", "what: 1"), "unknown field"}, {one(), ""}, {"broken", ""},
		} {
			if step.write != "" {
				if err := os.WriteFile(path, []byte(step.write), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(reload)
			logins, err := c.For(t.Context(), name, "a.other.example")
			if err != nil || len(logins) > 0 {
				t.Errorf("logins %v, %v", logins, err)
			}
			if err := c.Trouble(); step.trouble == "" && err != nil || step.trouble != "" && (err == nil || !strings.Contains(err.Error(), step.trouble)) {
				t.Errorf("trouble %v, want %q", err, step.trouble)
			}
		}
		if loaded != 1 {
			t.Errorf("told %d times that there are plugins", loaded)
		}
	})
}

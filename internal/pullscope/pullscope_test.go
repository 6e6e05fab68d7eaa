package pullscope_test

import (
	"testing"

	"edgecache.dev/internal/pullscope"
)

func TestCovers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		scope, name string
		want        bool
	}{
		"the registry":            {"r.example", "r.example/team/app", true},
		"another registry":        {"r.example", "evil.example/r.example/app", false},
		"a host that begins so":   {"r.example", "r.example.evil/app", false},
		"a host that ends so":     {"r.example", "evil.r.example/app", false},
		"the port":                {"r.example:5000", "r.example:5000/app", true},
		"another port":            {"r.example:5000", "r.example:5001/app", false},
		"no port":                 {"r.example", "r.example:5000/app", false},
		"a path":                  {"r.example/team", "r.example/team/app", true},
		"a prefix of a path":      {"r.example/team", "r.example/teamwork", true},
		"another path":            {"r.example/team", "r.example/other/app", false},
		"a star":                  {"*.example", "r.example/app", true},
		"a star spans no dot":     {"*.example", "a.r.example/app", false},
		"nothing":                 {"", "r.example/app", false},
		"another name of the Hub": {"index.docker.io", "docker.io/library/app", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := pullscope.Covers(tc.scope, tc.name); got != tc.want {
				t.Errorf("Covers(%q, %q) = %v", tc.scope, tc.name, got)
			}
		})
	}
}

func TestHub(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]bool{"index.docker.io": true, "registry-1.docker.io": true, "docker.io": false, "index.docker.io/team": false} {
		if got := pullscope.IsHub(scope); got != want {
			t.Errorf("IsHub(%q) = %v", scope, got)
		}
	}
	if !pullscope.OnHub("docker.io/library/app") || pullscope.OnHub("docker.io.evil/library/app") {
		t.Error("repositories of the Hub are not told from others")
	}
}

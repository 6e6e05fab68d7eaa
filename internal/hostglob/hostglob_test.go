package hostglob

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pattern string
		yes, no []string
	}{
		"plain host":           {"registry.example", []string{"registry.example"}, []string{"registry.example:5000", "a.registry.example", "registry.exampl", "Registry.example", ""}},
		"port must be equal":   {"registry.example:5000", []string{"registry.example:5000"}, []string{"registry.example", "registry.example:50"}},
		"star is one label":    {"*.corp.example", []string{"a.corp.example", "a-b.corp.example"}, []string{"corp.example", "a.b.corp.example"}},
		"star within a label":  {"eu-*.corp.example", []string{"eu-1.corp.example", "eu-.corp.example"}, []string{"us-1.corp.example"}},
		"star in the middle":   {"a.*.example", []string{"a.b.example"}, []string{"a.example", "a.b.c.example"}},
		"two stars":            {"*.*.example", []string{"a.b.example"}, []string{"b.example"}},
		"star glued to name":   {"*corp.example", []string{"corp.example", "acorp.example"}, []string{"a.corp.example"}},
		"set":                  {"r[0-9].example", []string{"r7.example"}, []string{"rx.example"}},
		"single label":         {"*", []string{"localhost"}, []string{"a.b"}},
		"IPv4":                 {"10.0.0.*:5000", []string{"10.0.0.7:5000"}, []string{"10.0.1.7:5000"}},
		"IPv6 with port":       {"[fd00::1]:5000", []string{"[fd00::1]:5000"}, []string{"[fd00::1]", "[fd00::2]:5000"}},
		"IPv6 without port":    {"[fd00::1]", []string{"[fd00::1]"}, []string{"f", "[fd00::2]"}},
		"broken matches none":  {"[a.example", nil, []string{"[a.example", "a.example"}},
		"star is not any port": {"*:*", []string{"a:*"}, []string{"a:1"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, host := range tc.yes {
				if !Match(tc.pattern, host) {
					t.Errorf("Match(%q, %q) = false, want true", tc.pattern, host)
				}
			}
			for _, host := range tc.no {
				if Match(tc.pattern, host) {
					t.Errorf("Match(%q, %q) = true, want false", tc.pattern, host)
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := map[string]string{ // pattern: what the error says, "" for none
		"registry.example":         "",
		"registry.example:5000":    "",
		"*.corp.example":           "",
		"localhost":                "",
		"[fd00::1]:5000":           "",
		"[fd00::1]":                "",
		"r[0-9].example":           "",
		"":                         "must not be empty",
		"https://registry.example": "without a scheme",
		"registry.example/team":    "without path",
		"user@registry.example":    "without path, user",
		"registry .example":        "or spaces",
		"registry..example":        "empty labels",
		".example":                 "empty labels",
		"registry.example:":        "at most one port",
		"a:b:c":                    "at most one port",
		"registry.example:0":       "from 1 to 65535",
		"registry.example:http":    "from 1 to 65535",
		"registry.example:70000":   "from 1 to 65535",
		"r[.example":               "not a valid pattern",
	}
	for pattern, want := range tests {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			err := Check(pattern)
			if want == "" {
				if err != nil {
					t.Errorf("Check(%q) = %v, want none", pattern, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Check(%q) = %v, want one containing %q", pattern, err, want)
			}
		})
	}
}

// FuzzMatch holds three properties: nothing panics, a plain accepted host matches
// itself, and a match never crosses a change of port or of the number of labels.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"a.b:1", "*.b", "[::1]:5", "[", "a..b", "*", ":", "a:b:c", "\\"} {
		f.Add(s, s)
		f.Add(s, "registry.example:5000")
	}
	f.Fuzz(func(t *testing.T, pattern, host string) {
		if Check(pattern) == nil && !strings.ContainsAny(pattern, `*?[\`) && !Match(pattern, pattern) {
			t.Errorf("%q does not match itself", pattern)
		}
		if !Match(pattern, host) {
			return
		}
		name, port := split(pattern)
		gotName, gotPort := split(host)
		if port != gotPort || strings.Count(name, ".") != strings.Count(gotName, ".") {
			t.Errorf("Match(%q, %q) crosses port or labels", pattern, host)
		}
		if ok, err := filepath.Match(name, gotName); err != nil || !ok {
			t.Errorf("Match(%q, %q), but not as one shell pattern", pattern, host)
		}
	})
}

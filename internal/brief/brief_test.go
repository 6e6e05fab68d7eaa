package brief

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		n    int
		want string
	}{
		{"short", 5, "short"},
		{"longer", 5, "lo…"},
		{"für", 4, "für"},
		{"aüü", 4, "a…"}, // ü would be broken
		{"longer", 3, "…"},
		{"longer", 2, ""},
		{"", 0, ""},
	}
	for _, tc := range tests {
		if got := Text(tc.text, tc.n); got != tc.want {
			t.Errorf("Text(%q, %d) = %q, want %q", tc.text, tc.n, got, tc.want)
		}
	}
	for n := range 40 {
		if got := Text(strings.Repeat("ü€", 10), n); len(got) > n || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", n, got)
		}
	}
}

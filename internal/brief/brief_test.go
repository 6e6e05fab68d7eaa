package brief

import (
	"encoding/json"
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

func TestJSON(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		n    int
		want string
	}{
		{"short", 5, "short"},
		{"longer", 5, "lo…"},
		{"<b>", 13, "<b>"},
		{"<b>", 12, "<b…"},
		{"a\nb", 3, "…"},
		{"a\nb", 2, ""},
		{"\"quoted\"", 10, "\"quoted\""},
		{"\"quoted\"", 9, "\"quot…"},
		{"a\xffb", 2, "ab"},
		{"", 0, ""},
	}
	for _, tc := range tests {
		if got := JSON(tc.text, tc.n); got != tc.want {
			t.Errorf("JSON(%q, %d) = %q, want %q", tc.text, tc.n, got, tc.want)
		}
	}
	var every strings.Builder // character below 256, and some above
	for r := range rune(256) {
		every.WriteRune(r)
	}
	text := every.String() + "€\u2028\u2029\ufffd😀" + every.String()
	whole, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	if got := JSON(text, len(whole)-2); got != text {
		t.Error("a text that fits was cut")
	}
	for n := range len(whole) - 2 {
		got := JSON(text, n)
		b, err := json.Marshal(got)
		if err != nil || len(b)-2 > n || n >= 9 && len(b)-2 < n-8 || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q takes %d (%v)", n, got, len(b)-2, err)
		}
	}
}

package brief

import "strings"

// mark stands at the end of what was shortened.
const mark = "…"

// Text shortens a text to at most n bytes, the mark at its end included, without breaking
// a character. Where there is no room for the mark nothing is left.
func Text(s string, n int) string {
	switch {
	case len(s) <= n:
		return s
	case n < len(mark):
		return ""
	}
	return strings.ToValidUTF8(s[:n-len(mark)], "") + mark
}

package brief

import (
	"strings"
	"unicode/utf8"
)

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

// JSON shortens a text to at most n bytes as Kubernetes stores it, without the quotes around
// it: in JSON some characters take two bytes, and those of HTML and controls six. What is
// no UTF-8 is left out.
func JSON(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	var size, fits int // bytes so far, and how much of s leaves room for the mark
	for i, r := range s {
		size += stored(r)
		switch {
		case size > n && n < len(mark):
			return ""
		case size > n:
			return s[:fits] + mark
		case size+len(mark) <= n:
			fits = i + utf8.RuneLen(r)
		}
	}
	return s
}

// stored gives the bytes that a character takes in JSON as encoding/json writes it.
func stored(r rune) int {
	switch r {
	case '"', '\\', '\b', '\f', '\n', '\r', '\t':
		return 2
	case '<', '>', '&', '\u2028', '\u2029':
		return 6
	}
	if r < ' ' {
		return 6
	}
	return utf8.RuneLen(r)
}

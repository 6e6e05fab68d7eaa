package clock

import (
	"testing"
	"time"
)

func TestIsSet(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"1970-01-01T00:00:00Z": false, "2025-12-31T23:59:59Z": false, "2026-01-01T00:00:00Z": true} {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		if IsSet(at) != want {
			t.Errorf("IsSet(%s) = %v", text, !want)
		}
	}
}

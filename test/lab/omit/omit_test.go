package omit

import (
	"fmt"
	"strings"
	"testing"
)

// outcome is a testing.TB that remembers how a test was ended.
type outcome struct {
	testing.TB
	skipped, failed string
}

func (o *outcome) Helper()                           {}
func (o *outcome) Skip(args ...any)                  { o.skipped = fmt.Sprint(args...) }
func (o *outcome) Fatalf(format string, args ...any) { o.failed = fmt.Sprintf(format, args...) }

func TestLeavingOutIsSaidOrFails(t *testing.T) {
	t.Setenv(Env, "")
	for value, skips := range map[string]bool{"": true, "0": true, "1": false} {
		t.Setenv(Env, value)
		var o outcome
		// A real one ends the test where it fails; this one goes on.
		Test(&o, "%s is missing", "runc")
		if skipped := o.skipped == "runc is missing"; skipped != skips || strings.HasPrefix(o.failed, "runc is missing") == skips {
			t.Errorf("%s=%s: skipped with %q, failed with %q", Env, value, o.skipped, o.failed)
		}
	}
}

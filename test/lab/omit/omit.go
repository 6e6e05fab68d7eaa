// Package omit decides what becomes of a test that this machine cannot run: it is left out with the reason, or fails where
// everything must run.
//
// All tests that need privileges or programs go through it, so that one setting makes leaving out a failure. It looks at
// nothing but that setting: what a test needs is for the test to find out.
package omit

import (
	"fmt"
	"os"
	"testing"
)

// Env names the variable that, set to 1, makes a test fail that would be left out for lack of privileges or programs: where
// everything should be there, leaving out is a failure.
const Env = "EDGECACHE_REQUIRE_E2E"

// Test skips the test with the reason, or lets it fail if EDGECACHE_REQUIRE_E2E is 1.
func Test(tb testing.TB, format string, args ...any) {
	tb.Helper()
	why := fmt.Sprintf(format, args...)
	if os.Getenv(Env) == "1" {
		tb.Fatalf("%s (and %s=1 forbids to leave the test out)", why, Env)
		return
	}
	tb.Skip(why)
}

package cluster

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edgecache.dev/test/lab/omit"
	"edgecache.dev/test/lab/process"
)

const (
	// LogsEnv names the variable with a folder where the logs of tests' labs are kept, one folder per test.
	LogsEnv = "EDGECACHE_LAB_LOGS"
	// testTail is how many lines of each log a failing test prints.
	testTail = 20
)

// ForTest starts a cluster that ends with the test. Where the machine cannot run what o asks for, the test is skipped with
// the reason, or fails with it if EDGECACHE_REQUIRE_E2E is 1. When the test has failed, the ends of all logs are printed.
func ForTest(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	RequireRuntime(tb, o.Runtime)
	if o.Out == nil {
		o.Out = tb.Output()
	}
	if logs := os.Getenv(LogsEnv); logs != "" && o.LogDir == "" {
		o.LogDir = filepath.Join(logs, strings.ReplaceAll(tb.Name(), "/", "_"))
	}
	c, err := Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(c.LogTails(testTail))
		}
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// RequireRuntime leaves the test out, with the reason, if nodes of runtime r cannot run on this machine. See package omit.
func RequireRuntime(tb testing.TB, r Runtime) {
	tb.Helper()
	if r != Containerd {
		return
	}
	if err := Probe().Err(); err != nil {
		omit.Test(tb, "%v", err)
	}
}

// LogTails returns the last lines of every log of the lab, at most n each.
func (c *Cluster) LogTails(n int) string {
	var b strings.Builder
	err := filepath.WalkDir(c.options.LogDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := process.Tail(path, n)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(c.options.LogDir, path)
		fmt.Fprintf(&b, "--- the end of %s\n%s\n", name, text)
		return err
	})
	if err != nil {
		fmt.Fprintf(&b, "--- reading the logs: %v\n", err)
	}
	return b.String()
}

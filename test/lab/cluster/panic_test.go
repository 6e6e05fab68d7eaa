package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgecache.dev/test/lab/leftover"
)

// panicEnv makes the test binary play a test that panics while it has a cluster.
const panicEnv = "CLUSTER_TEST_PANIC"

func TestMain(m *testing.M) {
	if os.Getenv(panicEnv) != "" {
		actPanic()
	}
	os.Exit(m.Run())
}

func actPanic() {
	c, err := Start(context.Background(), Options{Nodes: 1})
	if err != nil {
		panic(err)
	}
	fmt.Println(c.Dir(), c.dir.Lab())
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	panic("as a test does")
}

func TestNothingIsLeftAfterAPanic(t *testing.T) {
	t.Parallel()
	// Not t.TempDir: sockets want short paths.
	tmp, err := os.MkdirTemp("/tmp", "lab") //nolint:usetesting // see above
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(tmp)) })
	test := exec.CommandContext(t.Context(), os.Args[0])
	test.Env = append(os.Environ(), panicEnv+"=1", "TMPDIR="+tmp)
	stdin, err := test.StdinPipe()
	must(t, err)
	stdout, err := test.StdoutPipe()
	must(t, err)
	must(t, test.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	dir, lab, _ := strings.Cut(strings.TrimSpace(line), " ")
	if found, err := leftover.Of(dir, lab); err != nil || len(found) < 4 {
		t.Errorf("of a living lab only this is seen: %v, %v", found, err)
	}
	must(t, stdin.Close())
	if _, ok := errors.AsType[*exec.ExitError](test.Wait()); !ok {
		t.Error("the test did not panic")
	}
	awaitNothing(t, tmp, dir, lab)
}

// awaitNothing waits until the kernel and the janitor have cleared a lab away.
func awaitNothing(t *testing.T, tmp, dir, lab string) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		found, err := leftover.Of(dir, lab)
		must(t, err)
		entries, err := filepath.Glob(filepath.Join(tmp, "*", "*.lab"))
		must(t, err)
		if len(found)+len(entries) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left of the lab:\n%s\n%v", strings.Join(found, "\n"), entries)
		}
	}
}

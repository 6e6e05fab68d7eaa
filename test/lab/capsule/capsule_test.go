package capsule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edgecache.dev/test/lab/cgroup"
	"edgecache.dev/test/lab/omit"
	"edgecache.dev/test/lab/process"
)

// patience bounds each wait: how long a machine may be busy with other tests.
const patience = 2 * time.Minute

// TestMain lets the test binary play the inside of a capsule, and a lab that is killed.
func TestMain(m *testing.M) {
	switch os.Getenv("CAPSULE_TEST_ROLE") {
	case "inside":
		if err := Serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "lab":
		actLab()
	default:
		os.Exit(m.Run())
	}
}

// actLab starts a capsule with a program in it, prints the process id of number one and waits to be killed.
func actLab() {
	c, err := Start(context.Background(), options(os.Getenv("CAPSULE_TEST_DIR")))
	if err != nil {
		panic(err)
	}
	if _, err := c.Start(process.Command{Name: "sleep", Argv: []string{"/bin/sh", "-c", "trap '' TERM INT; sleep 600 & wait; sleep 600"}}); err != nil {
		panic(err)
	}
	println(c.Pid())
	select {}
}

func options(dir string) Options {
	return Options{
		Name: "test", Command: []string{"/usr/bin/env", "CAPSULE_TEST_ROLE=inside", os.Args[0]}, Log: filepath.Join(dir, "capsule.log"),
		Setup: Setup{
			Hostname:  "inside",
			Covers:    []Cover{{Source: filepath.Join(dir, "run"), Target: "/run"}, {Source: filepath.Join(dir, "tmp"), Target: "/tmp"}},
			Keep:      []string{dir},
			Shadows:   map[string]string{"/proc/sys/kernel/panic": "4711"},
			ShadowDir: filepath.Join(dir, "shadows"),
			Settings:  map[string]string{"/proc/sys/net/ipv4/ip_forward": "1"},
		},
	}
}

// newDir makes a folder outside of what the capsule covers, but for the one test that wants it within.
func newDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		omit.Test(t, "capsules need root, this is user %d", os.Geteuid())
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func startOne(t *testing.T) (*Capsule, string) {
	t.Helper()
	dir := newDir(t)
	c, err := Start(t.Context(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, dir
}

func (c *Capsule) must(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := c.Run(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func TestTheWorldInside(t *testing.T) {
	t.Parallel()
	c, dir := startOne(t)
	for name, tc := range map[string]struct {
		command string
		want    string
	}{
		"hostname":             {"hostname", "inside"},
		"processes":            {"cat /proc/1/environ | tr '\\0' '\\n' | grep ROLE", "CAPSULE_TEST_ROLE=inside"},
		"network devices":      {"grep -c : /proc/net/dev", "1"},
		"own settings":         {"cat /proc/sys/net/ipv4/ip_forward", "1"},
		"shadows":              {"cat /proc/sys/kernel/panic", "4711"},
		"covered":              {"ls /run | wc -l; touch /run/here; ls /run", "0\nhere"},
		"kept below a covered": {"test -d " + dir + "/run && echo yes", "yes"},
	} {
		if got := c.must(t, "sh", "-c", tc.command); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	if _, err := os.Stat("/run/here"); !os.IsNotExist(err) {
		t.Errorf("a file in the covered /run is seen outside: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "run", "here")); err != nil {
		t.Error(err)
	}
}

func TestChangesBelowAnOverlayStayInside(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	o := options(dir)
	o.Setup.Overlays = []Overlay{{Source: filepath.Join(dir, "own"), Target: "/etc"}}
	for _, want := range []string{"yes", "yes\nyes"} { // the second time in another capsule
		c, err := Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		got := c.must(t, "sh", "-c", "test -s /etc/passwd && echo yes >>/etc/edgecache-capsule-test; cat /etc/edgecache-capsule-test")
		if err := c.Close(); err != nil || got != want {
			t.Errorf("got %q, want %q; %v", got, want, err)
		}
	}
	if _, err := os.Stat("/etc/edgecache-capsule-test"); !os.IsNotExist(err) {
		t.Errorf("a file in the overlaid /etc is seen outside: %v", err)
	}
}

func TestItsControlGroupLooksLikeTheRoot(t *testing.T) {
	t.Parallel()
	o := options(newDir(t))
	o.Cgroup = fmt.Sprintf("edgecache-lab-test-capsule-%d/machine", os.Getpid())
	if err := cgroup.Make(o.Cgroup); err != nil {
		omit.Test(t, "control groups cannot be made: %v", err)
	}
	t.Cleanup(func() {
		if err := cgroup.Remove(filepath.Dir(o.Cgroup)); err != nil {
			t.Error(err)
		}
	})
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	// With version 2, the processes are out of the root's way.
	if got := c.must(t, "sh", "-c", "cut -d: -f3 /proc/self/cgroup | grep -v -e '^/$' -e '^/init$' || true"); got != "" {
		t.Errorf("groups seen from inside are %s", got)
	}
	points, err := cgroup.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, point := range points {
		c.must(t, "mkdir", point+"/from-inside")
		if _, err := os.Stat(filepath.Join(point, o.Cgroup, "from-inside")); err != nil {
			t.Errorf("a group made inside: %v", err)
		}
	}
}

func TestProgramsAreHandledLikeAnyOther(t *testing.T) {
	t.Parallel()
	c, dir := startOne(t)
	log := filepath.Join(dir, "logs", "program.log")
	p, err := process.Start(c, process.Command{
		Name: "program", Argv: []string{"/bin/sh", "-c", `echo $COLOUR $PWD $$; trap 'exit 3' TERM; while :; do sleep 0.05; done`},
		Env: []string{"COLOUR=red", "PATH=/usr/bin:/bin"}, Dir: dir, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("red %s %d", dir, p.Pid())
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if text, _ := process.Tail(log, 1); text == want {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("log holds %q, want %q", text, want)
		}
	}
	if err := p.Stop(process.Grace); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("ended with %v", err)
	}
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("ended with %v", err)
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signalling an ended program: %v", err)
	}
}

func TestAProgramThatEndsAtOnceIsNotLost(t *testing.T) {
	t.Parallel()
	c, _ := startOne(t)
	for range 100 {
		p, err := c.Start(process.Command{Name: "brief", Argv: []string{"/bin/sh", "-c", "exit 7"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil || err.Error() != "exit status 7" {
			t.Fatalf("ended with %v", err)
		}
	}
}

func TestWhatCannotBeStartedIsAnError(t *testing.T) {
	t.Parallel()
	c, _ := startOne(t)
	if _, err := c.Start(process.Command{Name: "nothing", Argv: []string{"/nonexistent"}}); err == nil || !strings.Contains(err.Error(), "starting nothing") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Run(t.Context(), "no-such-program"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	out, err := c.Run(t.Context(), "sh", "-c", "echo sorry; exit 2")
	if err == nil || !strings.Contains(err.Error(), "exit status 2: sorry") || out != "sorry\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	t.Parallel()
	c, _ := startOne(t)
	c.must(t, "sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		left := c.must(t, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep -c -e sleep -e ' Z ' || true")
		if left == "0" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s orphans are left", left)
		}
	}
}

func TestClosingEndsEverything(t *testing.T) {
	t.Parallel()
	c, _ := startOne(t)
	p, err := process.Start(c, process.Command{Name: "stubborn", Argv: []string{"/bin/sh", "-c", "trap '' TERM INT HUP; sleep 600 & wait"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Err(); !errors.Is(err, errPowerCut) {
		t.Errorf("the program ended with %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing what is gone: %v", err)
	}
	if err := p.Restart(); err == nil {
		t.Error("a program was started in a closed capsule")
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestABadSetupIsAnError(t *testing.T) {
	t.Parallel()
	o := options(newDir(t))
	o.Setup.Covers = append(o.Setup.Covers, Cover{Source: "/tmp", Target: "/nonexistent"})
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "covering /nonexistent") {
		t.Errorf("got %v", err)
	}
}

func TestServeRefusesToBeAnyonesChild(t *testing.T) {
	t.Parallel()
	if err := Serve(); err == nil || !strings.Contains(err.Error(), "not number one") {
		t.Errorf("got %v", err)
	}
}

// processesOf returns the processes whose PID namespace is that of number one.
func processesOf(t *testing.T, namespace string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && ns == namespace {
			found = append(found, link)
		}
	}
	return found
}

func TestACapsuleEndsWithItsLab(t *testing.T) {
	t.Parallel()
	lab := exec.CommandContext(t.Context(), os.Args[0])
	lab.Env = append(os.Environ(), "CAPSULE_TEST_ROLE=lab", "CAPSULE_TEST_DIR="+newDir(t))
	stderr, err := lab.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("got %q", line)
	}
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); len(processesOf(t, namespace)) < 3; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the capsule's processes are %v, want number one, a shell and a sleep", processesOf(t, namespace))
		}
	}
	if err := lab.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = lab.Wait()
	for deadline := time.Now().Add(patience); len(processesOf(t, namespace)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("left of the capsule: %v", processesOf(t, namespace))
		}
	}
}

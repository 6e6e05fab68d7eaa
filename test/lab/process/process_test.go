package process

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play the process that starts others and dies.
func TestMain(m *testing.M) {
	if os.Getenv("PROCESS_TEST_PARENT") != "" {
		actParent()
		return
	}
	os.Exit(m.Run())
}

// actParent starts a child, prints its process id and waits to be killed.
func actParent() {
	p, err := Start(Host{}, Command{Name: "sleeper", Argv: []string{"/bin/sleep", "600"}})
	if err != nil {
		panic(err)
	}
	println(p.Pid())
	select {}
}

func shell(t *testing.T, script string) Command {
	t.Helper()
	return Command{Name: "script", Argv: []string{"/bin/sh", "-c", script}, Log: filepath.Join(t.TempDir(), "logs", "script.log")}
}

func start(t *testing.T, c Command) *Process {
	t.Helper()
	p, err := Start(Host{}, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// awaitLog waits until the log holds text: then the script has got that far.
func awaitLog(t *testing.T, p *Process, text string) {
	t.Helper()
	err := p.WaitReady(t.Context(), func(context.Context) error {
		log, err := os.ReadFile(p.Log())
		if err == nil && !strings.Contains(string(log), text) {
			err = errors.New("not yet printed")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStopAsksFirst(t *testing.T) {
	t.Parallel()
	p := start(t, shell(t, `trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done`))
	awaitLog(t, p, "up")
	if err := p.Stop(Grace); err != nil {
		t.Fatal(err)
	}
	if p.Running() {
		t.Error("still running after Stop")
	}
	if log, _ := os.ReadFile(p.Log()); !strings.Contains(string(log), "asked") {
		t.Errorf("the program was not asked: %q", log)
	}
	if err := p.Stop(Grace); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	t.Parallel()
	p := start(t, shell(t, `trap '' TERM; echo up; while :; do sleep 0.05; done`))
	awaitLog(t, p, "up")
	if err := p.Stop(100 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("ended with %v, want SIGKILL", err)
	}
}

func TestRestartRunsTheSameAgain(t *testing.T) {
	t.Parallel()
	p := start(t, shell(t, `echo up; sleep 600`))
	awaitLog(t, p, "up")
	if err := p.Restart(); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("restarting a running program: %v", err)
	}
	before, done := p.Pid(), p.Done()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := p.Restart(); err != nil {
		t.Fatal(err)
	}
	if p.Pid() == before || !p.Running() {
		t.Errorf("process id %d, running %v: not a new incarnation", p.Pid(), p.Running())
	}
	awaitLog(t, p, "up\nup")
}

func TestAnEarlyEndQuotesTheLog(t *testing.T) {
	t.Parallel()
	p := start(t, shell(t, `echo "bad flag: --colour" >&2; exit 2`))
	err := p.WaitReady(t.Context(), func(context.Context) error { return errors.New("connection refused") })
	if _, ok := errors.AsType[*EndedError](err); !ok || !strings.Contains(err.Error(), "bad flag: --colour") || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("got %v", err)
	}
	if p.Err() == nil {
		t.Error("Err is nil after exit status 2")
	}
}

func TestWaitReadySaysWhyItGaveUp(t *testing.T) {
	t.Parallel()
	p := start(t, shell(t, `echo thinking; sleep 600`))
	awaitLog(t, p, "thinking")
	ctx, cancel := context.WithTimeout(t.Context(), 3*readyPoll)
	defer cancel()
	notYet := errors.New("connection refused")
	err := p.WaitReady(ctx, func(context.Context) error { return notYet })
	if !errors.Is(err, notYet) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "thinking") {
		t.Errorf("got %v", err)
	}
}

func TestStartNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := Start(Host{}, Command{Name: "etcd", Argv: []string{"/nonexistent/etcd"}})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "starting etcd") {
		t.Errorf("got %v", err)
	}
	if _, err := Start(Host{}, Command{Name: "nothing"}); err == nil {
		t.Error("an empty command was started")
	}
}

func TestAChildHasItsOwnProcessGroup(t *testing.T) {
	t.Parallel()
	p := start(t, shell(t, "sleep 600"))
	group, err := syscall.Getpgid(p.Pid())
	if err != nil || group != p.Pid() {
		t.Errorf("group %d, %v; want %d: the terminal's ^C would reach it", group, err, p.Pid())
	}
}

func TestAChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), "PROCESS_TEST_PARENT=1")
	stderr, err := parent.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || syscall.Kill(pid, 0) != nil {
		t.Fatalf("no child: %q, %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for deadline := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its parent", pid)
		}
	}
}

func TestTheThreadThatStartedAChildIsKept(t *testing.T) {
	t.Parallel()
	p := start(t, shell(t, "sleep 600"))
	// Goroutines that end while locked take their threads with them: many threads go, the child's must not.
	for range 200 {
		start(t, shell(t, "exit 0"))
	}
	if !p.Running() {
		t.Errorf("the child was killed: %v", p.Err())
	}
}

func TestCleanEnvLeadsNowhere(t *testing.T) {
	for _, key := range []string{"HTTPS_PROXY", "no_proxy", "KUBECONFIG", "OTEL_TRACES_EXPORTER"} {
		t.Setenv(key, "x")
	}
	t.Setenv("LAB_KEEPS", "x")
	env := CleanEnv()
	for _, entry := range []string{"HTTPS_PROXY=x", "no_proxy=x", "KUBECONFIG=x", "OTEL_TRACES_EXPORTER=x"} {
		if slices.Contains(env, entry) {
			t.Errorf("%s is passed on", entry)
		}
	}
	if !slices.Contains(env, "LAB_KEEPS=x") {
		t.Error("an innocent variable was dropped")
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	long := strings.Repeat(strings.Repeat("x", 99)+"\n", 1000) + "last but one\nlast\n"
	for name, tc := range map[string]struct{ text, want string }{
		"empty":               {"", ""},
		"shorter than asked":  {"one\n", "one"},
		"longer than is read": {long, "last but one\nlast"},
	} {
		if err := os.WriteFile(path, []byte(tc.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Tail(path, 2); err != nil || got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

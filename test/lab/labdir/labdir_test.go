package labdir

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary play a lab's process and a janitor.
func TestMain(m *testing.M) {
	switch os.Getenv("LABDIR_TEST_ROLE") {
	case "lab":
		actLab()
	case "janitor":
		if err := Clean(os.Stdin, os.Args[len(os.Args)-1]); err != nil {
			panic(err)
		}
	default:
		os.Exit(m.Run())
	}
}

// actLab makes a lab, hires a janitor if told so, prints the lab's entry and folder and waits to be killed.
func actLab() {
	d, err := Create("")
	if err != nil {
		panic(err)
	}
	if os.Getenv("LABDIR_TEST_JANITOR") != "" {
		if _, err := d.Hire("/usr/bin/env", "LABDIR_TEST_ROLE=janitor", os.Args[0]); err != nil {
			panic(err)
		}
	}
	println(d.Entry() + " " + d.Path())
	select {}
}

// killedLab runs a lab in a process of its own, kills it and returns its entry and folder.
func killedLab(t *testing.T, env ...string) (entry, path string) {
	t.Helper()
	lab := exec.CommandContext(t.Context(), os.Args[0])
	lab.Env = append(append(os.Environ(), "LABDIR_TEST_ROLE=lab"), env...)
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
	if err := lab.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = lab.Wait()
	entry, path, _ = strings.Cut(strings.TrimSpace(line), " ")
	return entry, path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func newLab(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestCloseRemovesOnlyWhatWasMade(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	temporary, chosen := newLab(t, ""), newLab(t, filepath.Join(t.TempDir(), "mine"))
	if temporary.Lab() == chosen.Lab() || len(temporary.Lab()) != 6 {
		t.Errorf("identities %q and %q", temporary.Lab(), chosen.Lab())
	}
	for _, d := range []*Dir{temporary, chosen} {
		if err := os.WriteFile(filepath.Join(d.Path(), "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if exists(temporary.Path()) || exists(temporary.Entry()) || exists(chosen.Entry()) {
		t.Error("a closed lab left something")
	}
	if !exists(filepath.Join(chosen.Path(), "file")) {
		t.Error("the caller's own folder was removed")
	}
	if err := temporary.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestSweepTakesTheDeadAndSparesTheLiving(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	living := newLab(t, "")
	entry, path := killedLab(t)
	if !exists(path) || !exists(entry) {
		t.Fatal("the killed lab is not there to be swept")
	}
	swept, err := Sweep()
	if err != nil || swept != 1 {
		t.Errorf("swept %d, %v; want 1", swept, err)
	}
	if exists(path) || exists(entry) {
		t.Error("the dead lab is still there")
	}
	if !exists(living.Path()) || !exists(living.Entry()) {
		t.Error("a living lab was swept")
	}
}

func TestTheJanitorClearsAKilledLabAway(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	entry, path := killedLab(t, "LABDIR_TEST_JANITOR=1")
	for deadline := time.Now().Add(2 * janitorPatience); exists(path) || exists(entry); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the janitor did not come")
		}
	}
}

func TestTheJanitorTriesAgain(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	entry, path := killedLab(t)
	whole, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(entry, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sweep(entry); err == nil {
		t.Fatal("half a record was understood")
	}
	done := make(chan error, 1)
	go func() { done <- Clean(strings.NewReader(""), entry) }()
	time.Sleep(2 * janitorPoll) // so that it has most likely failed once
	if err := os.WriteFile(entry, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || exists(entry) || exists(path) {
		t.Errorf("the janitor gave up: %v", err)
	}
}

func TestADismissedJanitorLeavesQuietly(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("LABDIR_TEST_ROLE", "janitor")
	d := newLab(t, "")
	j, err := d.Hire(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Dismiss(); err != nil {
		t.Error(err)
	}
}

func TestALabThatIsJustBeingMadeIsSpared(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	list, err := ensureList()
	if err != nil {
		t.Fatal(err)
	}
	young, old := filepath.Join(list, "young.lab"), filepath.Join(list, "old.lab")
	for _, path := range []string{young, old} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * youngest)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if swept, err := Sweep(); err != nil || swept != 1 || !exists(young) || exists(old) {
		t.Errorf("swept %d, %v; the young one is there: %v, the old one: %v", swept, err, exists(young), exists(old))
	}
}

func TestAChosenFolderMustBeEmpty(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	chosen := t.TempDir()
	if err := os.WriteFile(filepath.Join(chosen, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(chosen); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("got %v", err)
	}
	if entries, err := filepath.Glob(filepath.Join(os.TempDir(), "*", "*.lab")); err != nil || len(entries) > 0 {
		t.Errorf("the refused lab left %v, %v", entries, err)
	}
}

func TestAForeignListIsRefused(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	list, err := ensureList()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(list, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(""); err == nil {
		t.Error("a list that anyone may write to was trusted")
	}
}

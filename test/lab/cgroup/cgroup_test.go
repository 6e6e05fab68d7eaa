package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edgecache.dev/test/lab/omit"
)

func TestParseRecognisesBothVersions(t *testing.T) {
	t.Parallel()
	known := []string{"cpu", "cpuacct"}
	for line, want := range map[string]struct {
		point, controllers string
		unified            bool
	}{
		"33 25 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct":           {"/sys/fs/cgroup/cpu", "cpu,cpuacct", false},
		"35 25 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd": {"/sys/fs/cgroup/systemd", "name=systemd", false},
		"43 25 0:39 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate":                       {"/sys/fs/cgroup", "", true},
		"25 22 0:25 / /sys/fs/cgroup rw,relatime shared:7 master:2 - tmpfs tmpfs rw":                    {},
		"25 22 0:25 / /mnt/cgroup rw - ext4 /dev/cgroup2 rw":                                            {},
		"nonsense": {},
	} {
		got, ok := parse(line)
		if ok != (want.point != "") || ok && (got.point != want.point || got.unified != want.unified) {
			t.Errorf("parse(%q) = %+v, %v; want %+v", line, got, ok, want)
		}
		if ok && !got.unified && got.controllers(known) != want.controllers {
			t.Errorf("controllers of %q are %q, want %q", line, got.controllers(known), want.controllers)
		}
	}
}

// makeOne makes a group in every hierarchy and returns its name and where it is.
func makeOne(t *testing.T, below string) (name string, groups []string) {
	t.Helper()
	points, err := Hierarchies()
	if err != nil || len(points) == 0 || os.Geteuid() != 0 {
		omit.Test(t, "control groups cannot be made: %d hierarchies, %v, user %d", len(points), err, os.Geteuid())
	}
	name = fmt.Sprintf("edgecache-lab-test-%d-%s", os.Getpid(), t.Name())
	if err := Make(name + "/" + below); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(name); err != nil {
			t.Error(err)
		}
	})
	for _, point := range points {
		groups = append(groups, filepath.Join(point, name))
	}
	return name, groups
}

func TestRemoveTakesTheWholeTreeInEveryHierarchy(t *testing.T) {
	t.Parallel()
	name, groups := makeOne(t, "machine/pod/container")
	if err := Remove(name); err != nil {
		t.Fatal(err)
	}
	for _, group := range groups {
		if _, err := os.Stat(group); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want it gone", group, err)
		}
	}
	if err := Remove(name); err != nil {
		t.Errorf("removing again: %v", err)
	}
}

func TestProcessesMoveIn(t *testing.T) {
	t.Parallel()
	name, groups := makeOne(t, "machine")
	sleep := exec.CommandContext(t.Context(), "/bin/sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	moved := Move(name+"/machine", sleep.Process.Pid)
	membership, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", sleep.Process.Pid))
	if moved != nil || err != nil {
		t.Errorf("%v, %v", moved, err)
	}
	if got := strings.Count(string(membership), "/"+name+"/machine\n"); got != len(groups) {
		t.Errorf("the process is in %d of %d groups:\n%s", got, len(groups), membership)
	}
	if err := errors.Join(sleep.Process.Kill(), Move(name+"/nowhere", os.Getpid())); err == nil {
		t.Error("moved into a group that is not there")
	}
	_ = sleep.Wait()
}

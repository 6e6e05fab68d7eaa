package powercut

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"edgecache.dev/test/lab/omit"
)

// require leaves the test out where something is missing.
func require(tb testing.TB, fs FS) {
	tb.Helper()
	if os.Getuid() != 0 {
		omit.Test(tb, "a disk whose power can be cut needs root: loop devices are mounted")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		omit.Test(tb, "a disk whose power can be cut needs loop devices: %v", err)
	}
	for _, program := range []string{"mkfs.xfs", "mkfs." + string(fs), "mount", "umount"} {
		if _, err := exec.LookPath(program); err != nil {
			omit.Test(tb, "a disk whose power can be cut needs %s (apt-get install xfsprogs e2fsprogs mount): %v", program, err)
		}
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		omit.Test(tb, "finding out which file systems the kernel knows: %v", err)
	}
	for _, want := range []FS{XFS, fs} {
		// One that is a module is loaded by the mount.
		if !strings.Contains(string(known), "\t"+string(want)+"\n") && exec.Command("modprobe", string(want)).Run() != nil {
			omit.Test(tb, "a disk whose power can be cut needs a kernel that knows %s", want)
		}
	}
}

func format(tb testing.TB, fs FS, file string, size int64) {
	tb.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		tb.Fatal(err)
	}
	run(tb, "mkfs."+string(fs), "-q", file)
}

func mount(tb testing.TB, fs FS, file, dir string) {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	options := "loop"
	if fs == XFS {
		options += ",nouuid" // clones have the UUID of what they were cloned from
	}
	run(tb, "mount", "-t", string(fs), "-o", options, file, dir)
	// Lazily: mount namespaces that were made meanwhile, by other tests, may have it still.
	tb.Cleanup(func() { run(tb, "umount", "--lazy", dir) })
}

func run(tb testing.TB, name string, args ...string) {
	tb.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// folder makes a locked folder that goes with the test, and clears away those that nobody holds.
func folder(tb testing.TB) string {
	tb.Helper()
	all := filepath.Join(os.TempDir(), fmt.Sprintf("edgecache-powercut-%d", os.Getuid()))
	if err := os.MkdirAll(all, 0o700); err != nil {
		tb.Fatal(err)
	}
	list, err := lock(all, unix.LOCK_EX) // between being made and locked a folder looks like a dead one
	if err != nil {
		tb.Fatalf("locking %s: %v", all, err)
	}
	defer func() { _ = list.Close() }()
	sweep(tb, all)
	path := filepath.Join(all, "disk-"+strings.ToLower(rand.Text()[:6]))
	if err := os.Mkdir(path, 0o700); err != nil {
		tb.Fatal(err)
	}
	held, err := lock(path, unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		tb.Fatalf("locking %s: %v", path, err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(os.RemoveAll(path), held.Close()); err != nil {
			tb.Error(err)
		}
	})
	return path
}

// lock locks a folder for as long as the file is open.
func lock(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes the disks of processes that were killed.
func sweep(tb testing.TB, all string) {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(all, "disk-*"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, path := range found {
		held, err := lock(path, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // its test runs, or has just ended
		}
		for _, point := range mounted(tb, path) {
			run(tb, "umount", "--lazy", point)
		}
		if err := errors.Join(os.RemoveAll(path), held.Close()); err != nil {
			tb.Logf("clearing away %s: %v", path, err)
		}
	}
}

// mounted gives the mount points below a folder, those mounted last first.
func mounted(tb testing.TB, path string) (points []string) {
	tb.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], path+"/") {
			points = append(points, fields[4])
		}
	}
	slices.Reverse(points)
	return points
}

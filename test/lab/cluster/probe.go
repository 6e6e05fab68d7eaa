package cluster

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"edgecache.dev/test/lab/cgroup"
)

// overlayMagic is what statfs says of an overlay file system, on which no second one can be mounted.
const overlayMagic = 0x794c7630

// A Report tells what the lab can do on this machine.
type Report struct {
	// Missing says, one entry each, what containerd nodes lack here; empty means that they can run.
	Missing []string
	// NoBandwidth says why bandwidth limits on nodes' links do not work here; empty means that they do.
	NoBandwidth string
}

// Err returns nil if containerd nodes can run here, else an error that says what is missing and what to do about it.
func (r Report) Err() error {
	if len(r.Missing) == 0 {
		return nil
	}
	return fmt.Errorf("containerd nodes cannot run on this machine: %s", strings.Join(r.Missing, "; "))
}

// Probe finds out what the lab can do on this machine, by trying. It takes some milliseconds and leaves nothing.
func Probe() Report {
	if uid := os.Geteuid(); uid != 0 {
		// Without privileges all other tries fail for this reason.
		return Report{Missing: []string{fmt.Sprintf("they need root, this is user %d", uid)}, NoBandwidth: "it needs root"}
	}
	var r Report
	for _, try := range []func() error{
		tryProgram("runc", "runc"), tryProgram("ip", "iproute2"), tryOverlay, tryTemporary, tryCgroups, tryNamespaces, tryVeth,
	} {
		if err := try(); err != nil {
			r.Missing = append(r.Missing, err.Error())
		}
	}
	if err := tryBandwidth(); err != nil {
		r.NoBandwidth = err.Error()
	}
	return r
}

// tryProgram looks for a program that the lab does not build itself.
func tryProgram(name, debianPackage string) func() error {
	return func() error {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed (apt-get install %s)", name, debianPackage)
		}
		return nil
	}
}

func tryOverlay() error {
	if hasOverlay() {
		return nil
	}
	// Loaded on demand on many machines; whether it helped shows below.
	_ = exec.Command("modprobe", "overlay").Run()
	if hasOverlay() {
		return nil
	}
	return errors.New("the kernel has no overlay file system (modprobe overlay)")
}

func hasOverlay() bool {
	f, err := os.Open("/proc/filesystems")
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if slices.Contains(strings.Fields(lines.Text()), "overlay") {
			return true
		}
	}
	return false
}

// tryTemporary refuses a temporary folder that containerd could not put its snapshots in.
func tryTemporary() error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(os.TempDir(), &stat); err != nil {
		return fmt.Errorf("looking at %s: %w", os.TempDir(), err)
	}
	if stat.Type == overlayMagic {
		return fmt.Errorf("%s is an overlay file system itself; set TMPDIR to a folder on a real disk", os.TempDir())
	}
	return nil
}

func tryCgroups() error {
	hierarchies, err := cgroup.Hierarchies()
	if err != nil {
		return err
	}
	if len(hierarchies) == 0 {
		return errors.New("no control groups are mounted")
	}
	lab := "edgecache-lab-probe-" + rand.Text()
	machine := lab + "/machine"
	if err := cgroup.Make(machine); err != nil {
		return errors.Join(err, cgroup.Remove(lab))
	}
	missing, err := cgroup.Missing(machine)
	if len(missing) > 0 {
		err = fmt.Errorf("the controllers %s are not passed on to new control groups (in a container: processes in the root group prevent it)",
			strings.Join(missing, ", "))
	}
	return errors.Join(err, cgroup.Remove(lab))
}

func tryNamespaces() error {
	return inNamespaces(syscall.CLONE_NEWPID|syscall.CLONE_NEWNS|syscall.CLONE_NEWNET|syscall.CLONE_NEWUTS,
		"namespaces cannot be made", "true")
}

func tryVeth() error {
	return inNamespaces(syscall.CLONE_NEWNET, "virtual network devices cannot be made",
		"ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
}

func tryBandwidth() error {
	return inNamespaces(syscall.CLONE_NEWNET, "traffic cannot be shaped",
		"tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "32kbit", "latency", "50ms")
}

// inNamespaces runs a command in namespaces of its own, with which go all of its effects.
func inNamespaces(flags uintptr, complaint string, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", complaint, err, strings.TrimSpace(string(out)))
	}
	return nil
}

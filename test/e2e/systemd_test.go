package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/omit"
	"edgecache.dev/test/lab/process"
)

// systemdProgram is where distributions have it.
const systemdProgram = "/lib/systemd/systemd"

// TestSystemdUnit: install has a real systemd enable and start the agent, held back as the unit says. It works without
// the API server, is started again when it is killed, and comes back after a power cut.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	for _, program := range []string{systemdProgram, "systemctl", "unshare", "nsenter", "pgrep"} {
		if _, err := exec.LookPath(program); err != nil {
			omit.Test(t, "%s is missing (apt-get install systemd util-linux procps): %v", program, err)
		}
	}
	w := newCluster(t, cluster.Options{Nodes: 1, Own: []string{"/etc", "/usr/local"}})
	n := w.lab.Nodes()[0]
	m := w.machine(n)
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply(pos.Name)
	if _, err := w.lab.ControlPlane().ApplyFile(t.Context(), "../../edgeagent/rbac-kubelet.yaml"); err != nil {
		t.Fatal(err)
	}
	w.likeKubeadm(n)
	systemd := w.startSystemd(n)
	within := w.within(n, systemd)
	w.stopAPIServer()
	w.install(within, "--systemd")
	w.answers(n)
	w.startAPIServer()
	w.untilReady(1)
	w.expectCached(n, pos)
	w.heldBack(within)

	t.Log("without the API server: killed, it is back, and an image removed by hand is, too")
	w.stopAPIServer()
	was := w.mainPID(within)
	if out, err := within(t.Context(), "systemctl", "kill", "--signal=SIGKILL", "edgecache-agent"); err != nil {
		t.Fatal(out, err)
	}
	w.eventually("systemd starts it again", func() error {
		if is := w.mainPID(within); is == was || is == "0" {
			return fmt.Errorf("process %s", is)
		}
		return nil
	})
	w.answers(n, pos.Name)
	w.remove(n, pos)
	w.expectCached(n, pos)

	t.Log("the box loses its power, and comes up without the API server")
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := m.PowerOnAlone(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := systemd.Restart(); err != nil {
		t.Fatal(err)
	}
	w.answers(n, pos.Name)

	t.Log("uninstalled it is gone, and what it held stays, pinned")
	w.uninstall(within)
	if is := w.mainPID(within); is != "0" {
		t.Errorf("it runs: process %s", is)
	}
	w.expectCached(n, pos)
}

// boot starts systemd as number one of process ids of its own. It changes no setting of the kernel, which is the host's.
const boot = `mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lab SYSTEMD_UNIT_PATH=%s:/etc/systemd/system SYSTEMD_GENERATOR_PATH=/nonexistent \
  ` + systemdProgram + ` --system --unit=multi-user.target --log-target=console --show-status=no`

// startSystemd starts a systemd on a node that knows no unit but those that come: its targets are empty, as the host's
// own would have it tidy up folders that it shares with the host.
func (w *world) startSystemd(n *node.Node) *process.Process {
	w.Helper()
	units := filepath.Join(n.Dir(), "units")
	files := map[string]string{
		"multi-user.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n",
		// What the agent says goes to a file, for want of a journal.
		"edgecache-agent.service.d/log.conf": "[Service]\nStandardOutput=append:" + filepath.Join(w.lab.LogDir(), n.Name(), "unit.log") + "\nStandardError=inherit\n",
	}
	for _, target := range []string{"basic", "sysinit", "shutdown", "local-fs", "umount"} {
		files[target+".target"] = "[Unit]\nDefaultDependencies=no\n"
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(units, name)), 0o755); err != nil {
			w.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(units, name), []byte(text), 0o600); err != nil {
			w.Fatal(err)
		}
	}
	m := w.machine(n)
	if out, err := m.Exec(w.Context(), "sh", "-c", "rm -rf /etc/systemd/system && mkdir -p /etc/systemd/system"); err != nil {
		w.Fatal(out, err)
	}
	p, err := n.Run("systemd", []string{"/usr/bin/unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", fmt.Sprintf(boot, units)})
	if err != nil {
		w.Fatal(err)
	}
	w.eventually("systemd runs", func() error {
		out, err := w.within(n, p)(w.Context(), "systemctl", "is-active", "multi-user.target")
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(out), err)
		}
		return nil
	})
	return p
}

// within runs commands where systemd sees them: it refuses those of other process ids.
func (w *world) within(n *node.Node, systemd *process.Process) execute {
	return func(ctx context.Context, argv ...string) (string, error) {
		enter := fmt.Sprintf(`exec nsenter --target "$(pgrep -P %d)" --mount --pid "$@"`, systemd.Pid())
		return w.machine(n).Exec(ctx, append([]string{"sh", "-c", enter, "sh"}, argv...)...)
	}
}

// mainPID is the process that systemd knows as the agent's, "0" for none.
func (w *world) mainPID(within execute) string {
	w.Helper()
	out, err := within(w.Context(), "systemctl", "show", "--property=MainPID", "--value", "edgecache-agent")
	if err != nil {
		w.Fatal(out, err)
	}
	return strings.TrimSpace(out)
}

// heldBack checks that the agent's rights are those of the unit: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, and no others
// to be had.
func (w *world) heldBack(within execute) {
	w.Helper()
	status, err := within(w.Context(), "grep", "-E", "^(CapEff|CapBnd|NoNewPrivs):", "/proc/"+w.mainPID(within)+"/status")
	if err != nil {
		w.Fatal(status, err)
	}
	if got, want := strings.Fields(status), []string{"CapEff:", "0000000000000006", "CapBnd:", "0000000000000006", "NoNewPrivs:", "1"}; !slices.Equal(got, want) {
		w.Errorf("the agent runs with %q, want %q", got, want)
	}
}

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/test/lab/process"
)

const (
	// containerdAddress is where containerd listens inside, the usual place.
	containerdAddress = "/run/containerd/containerd.sock"
	// startTimeout bounds the start of each program; a busy machine may need long.
	startTimeout = 4 * time.Minute
	// ctrTimeout bounds one question to a starting containerd.
	ctrTimeout = 30 * time.Second
)

func (m *Machine) startContainerd(ctx context.Context) error {
	return m.launch(ctx, &m.containerd, "containerd", []string{
		filepath.Join(m.options.Bin, "containerd"), "--config", m.path("containerd.toml"),
	}, m.probeContainerd)
}

// StartContainerd starts containerd again after it was stopped or killed, and returns when it answers.
func (m *Machine) StartContainerd(ctx context.Context) error { return m.startContainerd(ctx) }

// StartKubelet starts the kubelet again after it was stopped or killed, and returns when it serves; it does not wait for
// the control plane to hear of it. A kubelet that does not find containerd ends: start that one first.
func (m *Machine) StartKubelet(ctx context.Context) error {
	if err := m.startKubelet(ctx); err != nil {
		return err
	}
	return m.awaitKubelet(ctx)
}

// awaitKubelet waits until the kubelet serves.
func (m *Machine) awaitKubelet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return m.Kubelet().WaitReady(ctx, func(context.Context) error { return m.listening(kubeletHealthPort) })
}

// kubeletHealthPort is where a kubelet says, inside, that it is healthy; it opens it when it is.
const kubeletHealthPort = 10248

// listening returns nil if a program on the machine listens on a TCP port of any IPv4 address.
func (m *Machine) listening(port int) error {
	inside := m.inside()
	if inside == nil {
		return errOff
	}
	sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", inside.Pid()))
	if err != nil {
		return err
	}
	// Address and port in hexadecimal, the other side's, and the state: 0A is LISTEN.
	for line := range strings.Lines(string(sockets)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) && fields[3] == "0A" {
			return nil
		}
	}
	return fmt.Errorf("nothing listens on port %d", port)
}

func (m *Machine) probeContainerd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ctrTimeout)
	defer cancel()
	_, err := m.Ctr(ctx, "version")
	return err
}

// Ctr runs containerd's command line client on the machine, in the namespace of Kubernetes' images and containers.
func (m *Machine) Ctr(ctx context.Context, args ...string) (string, error) {
	argv := []string{filepath.Join(m.options.Bin, "ctr"), "--address", containerdAddress, "--namespace", "k8s.io"}
	return m.Exec(ctx, append(argv, args...)...)
}

// loadPause brings the sandbox image in, if it shall be there from the start.
func (m *Machine) loadPause(ctx context.Context) error {
	if m.options.PauseArchive == "" || m.started {
		return nil
	}
	if _, err := m.Ctr(ctx, "images", "import", m.options.PauseArchive); err != nil {
		return fmt.Errorf("loading the sandbox image: %w", err)
	}
	return nil
}

func (m *Machine) startKubelet(ctx context.Context) error {
	argv := []string{
		filepath.Join(m.options.Bin, "kubelet"), "--config=" + m.path("kubelet.yaml"), "--kubeconfig=" + m.options.Kubeconfig,
		"--hostname-override=" + m.options.Name, "--node-ip=" + m.IP(), "--root-dir=/var/lib/kubelet",
		"--node-labels=" + joinLabels(m.options.Labels), "--v=2",
	}
	// Whether it is ready is what the control plane says: see awaitReady.
	return m.launch(ctx, &m.kubelet, "kubelet", argv, func(context.Context) error { return nil })
}

// joinLabels writes labels as kubelet's flag wants them. The hostname is kubelet's own business.
func joinLabels(labels map[string]string) string {
	var pairs []string
	for k, v := range labels {
		if k != corev1.LabelHostname {
			pairs = append(pairs, k+"="+v)
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// launch starts a program, for the first time or again, and waits until probe is content.
func (m *Machine) launch(ctx context.Context, p **process.Process, name string, argv []string, probe func(context.Context) error) error {
	program, err := m.begin(p, process.Command{
		Name: m.options.Name + "/" + name, Argv: argv, Env: m.environment(), Dir: m.options.Dir,
		Log: filepath.Join(m.options.LogDir, name+".log"),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return program.WaitReady(ctx, probe)
}

// begin starts the program that p holds again, or the command for the first time, and then keeps it in p.
func (m *Machine) begin(p **process.Process, c process.Command) (*process.Process, error) {
	m.mu.Lock()
	program := *p
	m.mu.Unlock()
	if program != nil {
		return program, program.Restart()
	}
	program, err := process.Start(m, c)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	*p = program
	return program, nil
}

// environment is that of the machine's own programs: containerd finds its shim in PATH, and both find system tools.
func (m *Machine) environment() []string {
	return append(process.CleanEnv(),
		"PATH="+m.options.Bin+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root")
}

// awaitReady waits until the control plane has the word of this start's kubelet that the node is Ready. The boot id tells
// it from what an earlier start had reported.
func (m *Machine) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var node *corev1.Node
	err := m.Kubelet().WaitReady(ctx, func(ctx context.Context) (err error) {
		node, err = m.options.Client.CoreV1().Nodes().Get(ctx, m.options.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return m.readiness(node)
	})
	if err != nil {
		return err
	}
	if m.options.Alone && len(node.Spec.Taints) > 0 {
		_, err = m.options.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType,
			[]byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{})
	}
	return err
}

// readiness returns nil if node is Ready and says so since this start, else what it says.
func (m *Machine) readiness(node *corev1.Node) error {
	if node.Status.NodeInfo.BootID != m.bootID {
		return errors.New("kubelet has not reported since the start")
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		} else if c.Type == corev1.NodeReady {
			return fmt.Errorf("node has Ready=%s, %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return errors.New("node has no condition Ready")
}

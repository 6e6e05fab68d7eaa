package machine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"

	"edgecache.dev/test/lab/capsule"
	"edgecache.dev/test/lab/cgroup"
	"edgecache.dev/test/lab/network"
	"edgecache.dev/test/lab/process"
)

// Options say what a machine is to be.
type Options struct {
	// Name is the machine's hostname and the Node object's name.
	Name string
	// Labels are the labels that the kubelet registers the Node object with.
	Labels map[string]string
	// Dir is the machine's folder, LogDir that of its logs.
	Dir    string
	LogDir string
	// Keep are further folders that programs on the machine must see.
	Keep []string
	// Own are folders of the host, such as /etc, of which the machine sees a copy that it may change. What it changes
	// outlasts its power.
	Own []string
	// Capsule is the command line that serves a capsule.
	Capsule []string
	// Bin is the folder of the lab's binaries.
	Bin string
	// Link is the machine's place in the lab's network.
	Link *network.Link
	// Registry is the lab's registry, as host:port: the one that the machine talks to without TLS.
	Registry string
	// Pause is the sandbox image's reference.
	Pause string
	// PauseArchive is the path of an archive with that image, to be loaded when the machine starts for the first time;
	// empty leaves it to containerd to pull it for the first pod.
	PauseArchive string
	// Kubeconfig has the node's identity, CAFile the authority that kubelet's clients are checked against.
	Kubeconfig string
	CAFile     string
	// Cgroup is the control group below which the machine gets its own.
	Cgroup string
	// ClusterDNS is written into pods as their name server. Nothing listens there.
	ClusterDNS string
	// Kubelet is a KubeletConfiguration as YAML, whose top-level fields replace the lab's.
	Kubelet string
	// Containerd is TOML that is appended to containerd's configuration.
	Containerd string
	// Client may do everything; Alone says that no controller manager runs, so that the machine removes the taint that
	// every new node gets.
	Client kubernetes.Interface
	Alone  bool
}

// A Machine is a node of the lab that runs containers. Its methods may be called by several goroutines at once.
type Machine struct {
	options Options

	power   sync.Mutex // held while the power changes
	bootID  string
	started bool // since the machine exists

	mu         sync.Mutex // guards what follows
	capsule    *capsule.Capsule
	containerd *process.Process
	kubelet    *process.Process
}

// New returns a machine that is off.
func New(o Options) *Machine { return &Machine{options: o} }

// errOff says that the machine is off.
var errOff = errors.New("the machine is off")

// Start runs a program on the machine. See process.Starter.
func (m *Machine) Start(c process.Command) (process.Running, error) {
	if inside := m.inside(); inside != nil {
		return inside.Start(c)
	}
	return nil, fmt.Errorf("starting %s: %w", c.Name, errOff)
}

func (m *Machine) inside() *capsule.Capsule {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.capsule
}

// Exec runs a command on the machine to its end and returns what it printed.
func (m *Machine) Exec(ctx context.Context, argv ...string) (string, error) {
	if inside := m.inside(); inside != nil {
		return inside.Run(ctx, argv...)
	}
	return "", fmt.Errorf("running %s: %w", argv[0], errOff)
}

// PowerOn starts the machine, containerd and kubelet, and returns when the control plane knows the node as Ready.
func (m *Machine) PowerOn(ctx context.Context) error {
	m.power.Lock()
	defer m.power.Unlock()
	return m.up(ctx, m.awaitReady)
}

// PowerOnAlone starts the machine as PowerOn does, and returns when the kubelet serves: for want of a control plane.
func (m *Machine) PowerOnAlone(ctx context.Context) error {
	m.power.Lock()
	defer m.power.Unlock()
	return m.up(ctx, m.awaitKubelet)
}

// up starts what belongs to the machine, until it is as awaited.
func (m *Machine) up(ctx context.Context, await func(context.Context) error) error {
	if m.inside() != nil {
		return nil
	}
	for _, step := range []func(context.Context) error{
		m.prepare, m.boot, m.startContainerd, m.loadPause, m.startKubelet, await,
	} {
		if err := step(ctx); err != nil {
			return errors.Join(err, m.powerOff(context.WithoutCancel(ctx)))
		}
	}
	m.started = true
	return nil
}

// prepare writes the configuration and empties what does not survive a boot.
func (m *Machine) prepare(context.Context) error {
	if err := os.RemoveAll(m.path("run")); err != nil {
		return fmt.Errorf("emptying /run: %w", err)
	}
	m.bootID = newBootID()
	if err := cgroup.Make(m.cgroup()); err != nil {
		return err
	}
	return m.configure()
}

// cgroup is the machine's control group, which it takes for the root of all groups.
func (m *Machine) cgroup() string { return m.options.Cgroup + "/" + m.options.Name }

// newBootID returns a random UUID, as the kernel does at each boot.
func newBootID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// boot starts the capsule and plugs the network in.
func (m *Machine) boot(ctx context.Context) error {
	inside, err := capsule.Start(ctx, capsule.Options{
		Name:    m.options.Name,
		Command: slices.Concat(m.options.Capsule, []string{m.options.Dir}),
		Log:     filepath.Join(m.options.LogDir, "capsule.log"),
		Cgroup:  m.cgroup(),
		Setup: capsule.Setup{
			Hostname: m.options.Name,
			Covers: []capsule.Cover{
				{Source: m.path("run"), Target: "/run"},
				{Source: m.path("var-log"), Target: "/var/log"},
				{Source: m.path("var-lib"), Target: "/var/lib"},
			},
			Keep:      slices.Concat(m.options.Keep, []string{m.options.Dir, m.options.LogDir, m.options.Bin}),
			Overlays:  m.own(),
			Shadows:   shadows(m.bootID),
			ShadowDir: m.path("shadows"),
		},
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.capsule = inside
	m.mu.Unlock()
	return m.options.Link.Attach(ctx, inside)
}

// own are the folders that the machine changes without the host's changing.
func (m *Machine) own() (overlays []capsule.Overlay) {
	for _, dir := range m.options.Own {
		overlays = append(overlays, capsule.Overlay{Source: m.path("own", strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")), Target: dir})
	}
	return overlays
}

// PowerOff ends everything on the machine at once.
func (m *Machine) PowerOff() error {
	m.power.Lock()
	defer m.power.Unlock()
	return m.powerOff(context.Background())
}

func (m *Machine) powerOff(ctx context.Context) error {
	inside := m.inside()
	if inside == nil {
		return nil
	}
	m.mu.Lock()
	m.capsule = nil
	m.mu.Unlock()
	err := inside.Close()
	ctx, cancel := context.WithTimeout(ctx, detachTimeout)
	defer cancel()
	// A kubelet that found the groups of the last boot's containers would look for these.
	return errors.Join(err, m.options.Link.Detach(ctx), cgroup.Remove(m.cgroup()))
}

// detachTimeout bounds the removal of the machine's network device.
const detachTimeout = 2 * time.Minute

// PauseHeartbeat freezes the kubelet, or lets it go on.
func (m *Machine) PauseHeartbeat(pause bool) error {
	kubelet := m.Kubelet()
	if kubelet == nil || m.inside() == nil {
		return errOff
	}
	if pause {
		return kubelet.Signal(syscall.SIGSTOP)
	}
	return kubelet.Signal(syscall.SIGCONT)
}

// Containerd returns containerd's process, nil before the first start. Kill it as you like; StartContainerd brings it back.
func (m *Machine) Containerd() *process.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.containerd
}

// Kubelet returns kubelet's process, nil before the first start. Kill it as you like; StartKubelet brings it back.
func (m *Machine) Kubelet() *process.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kubelet
}

// Link returns the machine's line, to make it fail.
func (m *Machine) Link() *network.Link { return m.options.Link }

// IP returns the machine's address.
func (m *Machine) IP() string { return m.options.Link.Addr().String() }

// BootID returns the boot id that the machine's kernel claims since the last start.
func (m *Machine) BootID() string {
	m.power.Lock()
	defer m.power.Unlock()
	return m.bootID
}

// Socket returns the path of containerd's socket as seen from outside the machine.
func (m *Machine) Socket() string { return m.path("run", "containerd", "containerd.sock") }

// CertsDir returns containerd's folder of registry settings (hosts.toml), under the same path inside and outside.
func (m *Machine) CertsDir() string { return m.path("certs.d") }

// ManifestDir returns the folder from which the kubelet runs static pods.
func (m *Machine) ManifestDir() string { return m.path("manifests") }

// Outside returns the path, seen from outside, of a path that programs on the machine see below /run, /var/log or
// /var/lib. Any other path is the same on both sides.
func (m *Machine) Outside(path string) string { return outside(m.options.Dir, path) }

// Close powers the machine off for good.
func (m *Machine) Close() error { return m.PowerOff() }

func (m *Machine) path(elements ...string) string {
	return filepath.Join(append([]string{m.options.Dir}, elements...)...)
}

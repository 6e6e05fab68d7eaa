package product

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/port"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/toolchain"
)

const (
	// SchedulerExamples is where the manifests of the scheduler are, below the repository's root.
	SchedulerExamples = "docs/examples/scheduler"
	// SchedulerAccount is the scheduler's service account where it runs beside the default scheduler.
	SchedulerAccount = "edgecache-scheduler"
	// schedulerPatience bounds the scheduler's start on a busy machine.
	schedulerPatience = 4 * time.Minute
)

// Scheduler is edgecache-scheduler in a lab.
type Scheduler struct {
	*process.Process
	port  *port.Reservation
	admin *rest.Config
}

// BuildScheduler builds the scheduler and gives its path. Never with the race detector: all of Kubernetes would be
// compiled once more for it. So built it shares what was compiled for the lab's kube-scheduler.
func BuildScheduler(ctx context.Context, tools *toolchain.Toolchain) (string, error) {
	return tools.Product(ctx, "edgecache-scheduler", how(false))
}

// SchedulerSpec says how the scheduler runs.
type SchedulerSpec struct {
	// Name of the process and its log; empty is edgecache-scheduler.
	Name string
	// Config is a KubeSchedulerConfiguration as YAML. Its clientConnection is the lab's.
	Config string
	// InPlace has it go by the default scheduler's identity, else it has its own service account.
	InPlace bool
	// Args are further flags.
	Args []string
}

// StartScheduler starts the scheduler under the rights of docs/examples/scheduler, and waits until it is ready. CRDs need
// not be there.
func StartScheduler(ctx context.Context, lab *cluster.Cluster, spec SchedulerSpec) (*Scheduler, error) {
	program, err := BuildScheduler(ctx, lab.Tools())
	if err != nil {
		return nil, err
	}
	if err := prepareScheduler(ctx, lab); err != nil {
		return nil, err
	}
	kubeconfig, err := spec.kubeconfig(lab.ControlPlane())
	if err != nil {
		return nil, err
	}
	spec.Name = cmp.Or(spec.Name, SchedulerAccount)
	file := filepath.Join(lab.Dir(), spec.Name+".yaml")
	if err := controlplane.WriteSchedulerConfig(file, spec.Config, kubeconfig); err != nil {
		return nil, err
	}
	argv := []string{program, "--config=" + file, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig}
	return runScheduler(ctx, lab, spec.Name, append(argv, spec.Args...))
}

func (s SchedulerSpec) kubeconfig(cp *controlplane.ControlPlane) (string, error) {
	if s.InPlace {
		return cp.Kubeconfig("system:kube-scheduler")
	}
	return cp.Kubeconfig("system:serviceaccount:"+v1alpha1.SystemNamespace+":"+SchedulerAccount,
		"system:serviceaccounts", "system:serviceaccounts:"+v1alpha1.SystemNamespace)
}

func prepareScheduler(ctx context.Context, lab *cluster.Cluster) error {
	if err := makeNamespace(ctx, lab.ControlPlane()); err != nil {
		return err
	}
	_, err := lab.ControlPlane().ApplyFile(ctx, filepath.Join(lab.Tools().Root(), SchedulerExamples, "rbac.yaml"))
	return err
}

func runScheduler(ctx context.Context, lab *cluster.Cluster, name string, argv []string) (*Scheduler, error) {
	s := &Scheduler{admin: lab.ControlPlane().Admin()}
	var err error
	if s.port, err = port.Loopback(); err != nil {
		return nil, err
	}
	argv = append(argv, "--bind-address=127.0.0.1", "--secure-port="+strconv.Itoa(s.port.Port()), "--permit-port-sharing")
	if s.Process, err = lab.Run(name, argv); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, schedulerPatience)
	defer cancel()
	if err := s.WaitReady(ctx, func(ctx context.Context) error {
		_, err := s.Get(ctx, "/readyz")
		if err == nil {
			_, err = s.Get(ctx, "/metrics") // it learns only after a moment whom to believe
		}
		return err
	}); err != nil {
		return nil, err
	}
	return s, nil
}

// Get asks the scheduler as an administrator: /readyz, /metrics, /configz.
func (s *Scheduler) Get(ctx context.Context, path string) (string, error) {
	pair, err := tls.X509KeyPair(s.admin.CertData, s.admin.KeyData)
	if err != nil {
		return "", fmt.Errorf("asking the scheduler: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.port.String()+path, nil)
	if err != nil {
		return "", fmt.Errorf("asking the scheduler: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("asking the scheduler: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	if err != nil {
		return "", fmt.Errorf("asking the scheduler for %s: %w", path, err)
	}
	return string(text), nil
}

// Metric gives the sum over the scheduler's series of a name that have all of the labels (name="value").
func (s *Scheduler) Metric(ctx context.Context, name string, labels ...string) (sum float64, err error) {
	text, err := s.Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series, _, _ := strings.Cut(series, "{"); series != name || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(line, l) }) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("reading metric %s: %w", name, err)
		}
		sum += n
	}
	return sum, nil
}

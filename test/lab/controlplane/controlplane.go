package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"edgecache.dev/test/lab/port"
	"edgecache.dev/test/lab/process"
)

// A ControlPlane is a running control plane.
type ControlPlane struct {
	options   Options
	authority *authority
	files     pkiFiles
	admin     *rest.Config

	apiPort, etcdClient, etcdPeer, controllersPort, schedulerPort *port.Reservation

	etcd, apiserver, controllers, scheduler *process.Process
}

// Start starts a control plane and returns when it is ready. On an error nothing is left running.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	c := &ControlPlane{options: o.withDefaults()}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		c.prepare, c.startEtcd, c.launchAPIServer, c.startControllers, c.startScheduler,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare reserves the ports and issues the certificates.
func (c *ControlPlane) prepare(context.Context) error {
	if err := c.reserve(); err != nil {
		return err
	}
	var err error
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	address := c.options.Address.Addr().String()
	hosts := []string{address, "127.0.0.1", "localhost", c.options.firstService().String(),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	if c.files, err = c.authority.writePKI(filepath.Join(c.options.Dir, "pki"), hosts); err != nil {
		return err
	}
	if c.admin, err = c.RESTConfig("lab-admin", Administrators); err != nil {
		return err
	}
	return c.WriteKubeconfig(c.AdminKubeconfig(), "lab-admin", Administrators)
}

func (c *ControlPlane) reserve() error {
	var err error
	if c.apiPort, err = port.Reserve(c.options.Address); err != nil {
		return err
	}
	for _, r := range []**port.Reservation{&c.etcdClient, &c.etcdPeer, &c.controllersPort, &c.schedulerPort} {
		if *r, err = port.Loopback(); err != nil {
			return err
		}
	}
	return nil
}

// URL returns the API server's address.
func (c *ControlPlane) URL() string { return "https://" + c.apiPort.String() }

func (c *ControlPlane) startEtcd(ctx context.Context) (err error) {
	c.etcd, err = c.launch(ctx, c.etcdCommand(), c.probeEtcd)
	return err
}

func (c *ControlPlane) launchAPIServer(ctx context.Context) (err error) {
	c.apiserver, err = c.launch(ctx, c.apiserverCommand(), c.Ready)
	return err
}

func (c *ControlPlane) startControllers(ctx context.Context) error {
	if c.options.ControllerManager == nil {
		return nil
	}
	kubeconfig, err := c.Kubeconfig("system:kube-controller-manager")
	if err != nil {
		return err
	}
	c.controllers, err = c.launch(ctx, c.controllerManagerCommand(kubeconfig), c.healthProbe(c.controllersPort))
	return err
}

func (c *ControlPlane) startScheduler(ctx context.Context) error {
	if c.options.Scheduler == nil {
		return nil
	}
	kubeconfig, err := c.Kubeconfig("system:kube-scheduler")
	if err != nil {
		return err
	}
	config, err := c.writeSchedulerConfig(kubeconfig)
	if err != nil {
		return err
	}
	c.scheduler, err = c.launch(ctx, c.schedulerCommand(kubeconfig, config), c.healthProbe(c.schedulerPort))
	return err
}

// writeSchedulerConfig writes the caller's scheduler configuration, completed with what belongs to this control plane.
func (c *ControlPlane) writeSchedulerConfig(kubeconfig string) (string, error) {
	path := filepath.Join(c.options.Dir, "scheduler.yaml")
	return path, WriteSchedulerConfig(path, c.options.Scheduler.Config, kubeconfig)
}

// WriteSchedulerConfig writes a KubeSchedulerConfiguration, given as YAML, to a file, for a scheduler that goes by a
// kubeconfig. Client-side rate limits are far off, and it works without election unless the configuration says otherwise.
func WriteSchedulerConfig(path, text, kubeconfig string) error {
	config := map[string]any{"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("reading the scheduler's configuration: %w", err)
	}
	config["clientConnection"] = map[string]any{"kubeconfig": kubeconfig, "qps": 1000, "burst": 2000}
	if config["leaderElection"] == nil {
		config["leaderElection"] = map[string]any{"leaderElect": false}
	}
	whole, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("writing the scheduler's configuration: %w", err)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		return fmt.Errorf("writing the scheduler's configuration: %w", err)
	}
	return nil
}

// launch starts a server and waits until probe is content. A server that does not get ready is killed.
func (c *ControlPlane) launch(ctx context.Context, cmd process.Command, probe func(context.Context) error) (*process.Process, error) {
	begin := time.Now()
	p, err := process.Start(process.Host{}, cmd)
	if err != nil {
		return nil, err
	}
	if err := c.await(ctx, p, probe); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	c.options.step("%s is ready after %.1fs", cmd.Name, time.Since(begin).Seconds())
	return p, nil
}

func (c *ControlPlane) await(ctx context.Context, p *process.Process, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	return p.WaitReady(ctx, probe)
}

// APIServer returns the API server's process, to look at, to freeze (SIGSTOP) or to kill; StartAPIServer brings it back.
func (c *ControlPlane) APIServer() *process.Process { return c.apiserver }

// Etcd returns etcd's process; StartEtcd brings it back.
func (c *ControlPlane) Etcd() *process.Process { return c.etcd }

// Controllers returns kube-controller-manager's process, nil if none was asked for.
func (c *ControlPlane) Controllers() *process.Process { return c.controllers }

// Scheduler returns the scheduler's process, nil if none was asked for.
func (c *ControlPlane) Scheduler() *process.Process { return c.scheduler }

// StopAPIServer stops the API server as an administrator would. Clients are refused from then on.
func (c *ControlPlane) StopAPIServer() error { return c.apiserver.Stop(process.Grace) }

// KillAPIServer ends the API server with SIGKILL.
func (c *ControlPlane) KillAPIServer() error { return c.apiserver.Kill() }

// StartAPIServer starts the API server again, on the same address with the same data, and returns when it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	return c.again(ctx, c.apiserver, c.Ready)
}

// KillEtcd ends etcd with SIGKILL.
func (c *ControlPlane) KillEtcd() error { return c.etcd.Kill() }

// StartEtcd starts etcd again and returns when it is ready.
func (c *ControlPlane) StartEtcd(ctx context.Context) error { return c.again(ctx, c.etcd, c.probeEtcd) }

func (c *ControlPlane) again(ctx context.Context, p *process.Process, probe func(context.Context) error) error {
	if err := p.Restart(); err != nil {
		return err
	}
	return c.await(ctx, p, probe)
}

// Close ends all servers at once; the data stays where it is. It may be called again.
func (c *ControlPlane) Close() error {
	var errs []error
	// Killed, not asked: nobody will read the data again, and an API server takes seconds to say goodbye.
	for _, p := range []*process.Process{c.scheduler, c.controllers, c.apiserver, c.etcd} {
		if p != nil {
			errs = append(errs, p.Kill())
		}
	}
	for _, r := range []*port.Reservation{c.apiPort, c.etcdClient, c.etcdPeer, c.controllersPort, c.schedulerPort} {
		if r != nil {
			r.Close()
		}
	}
	return errors.Join(errs...)
}

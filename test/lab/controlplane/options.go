package controlplane

import (
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Options say what a control plane consists of.
type Options struct {
	// Dir is its folder; it is made and left for the caller to remove.
	Dir string
	// LogDir is the folder of the log files; empty is Dir/logs.
	LogDir string
	// Binary returns the path of a program by its name ("etcd", "kube-apiserver").
	Binary func(name string) string
	// Address is where the API server listens; the zero value is a free port of 127.0.0.1.
	Address netip.AddrPort
	// ServiceCIDR is the range of service addresses; the zero value is 10.96.0.0/16, which nothing routes.
	ServiceCIDR netip.Prefix
	// APIServerArgs are further flags of kube-apiserver; they win over the lab's.
	APIServerArgs []string
	// ControllerManager is not nil if a kube-controller-manager shall run.
	ControllerManager *ControllerManager
	// Scheduler is not nil if a scheduler shall run.
	Scheduler *Scheduler
	// Out gets one line per step; nil is silent.
	Out io.Writer
	// Timeout bounds the start of each server; 0 is two minutes, which a busy machine may need.
	Timeout time.Duration
}

// ControllerManager says how kube-controller-manager runs.
type ControllerManager struct {
	// Args are further flags; they win over the lab's.
	Args []string
	// NodeMonitorGrace is how long a node may be silent before it is marked unready; 0 is 40 s.
	NodeMonitorGrace time.Duration
}

// Scheduler says which scheduler runs and how.
type Scheduler struct {
	// Binary is the path of the program; empty is the stock kube-scheduler.
	Binary string
	// Config is a KubeSchedulerConfiguration as YAML. Its clientConnection.kubeconfig is overridden. Empty is the
	// default configuration.
	Config string
	// Args are further flags; they win over the lab's.
	Args []string
}

// withDefaults fills what was left open.
func (o Options) withDefaults() Options {
	if !o.Address.IsValid() {
		o.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	if !o.ServiceCIDR.IsValid() {
		o.ServiceCIDR = netip.MustParsePrefix("10.96.0.0/16")
	}
	if o.LogDir == "" {
		o.LogDir = o.Dir + "/logs"
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Timeout == 0 {
		o.Timeout = 4 * time.Minute
	}
	return o
}

// firstService is the address of the service "kubernetes": the first of the range.
func (o Options) firstService() netip.Addr { return o.ServiceCIDR.Masked().Addr().Next() }

// step reports progress.
func (o Options) step(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }

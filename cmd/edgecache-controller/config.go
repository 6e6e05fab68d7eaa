package main

import (
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/cmd/internal/program"
	"edgecache.dev/controller/limits"
	"edgecache.dev/registrycheck/access"
)

// config is what the controller is told. Each field is a key of the file given with
// --config, a flag, and a variable EDGECACHE_<NAME>.
type config struct {
	// Kubeconfig is the path of a kubeconfig; "" uses the pod's service account.
	Kubeconfig string `mapstructure:"kubeconfig"`
	// KubeAPIQPS and KubeAPIBurst bound requests to the API server per second. Default
	// 200 and 400: a change for 10,000 nodes is written in under a minute.
	KubeAPIQPS   float32 `mapstructure:"kubeApiQps"`
	KubeAPIBurst int     `mapstructure:"kubeApiBurst"`
	// NodeWorkers is how many nodes are written at a time; 1 to 256, default 16.
	NodeWorkers int `mapstructure:"nodeWorkers"`
	// LookUpWorkers is how many images are looked up at a time; 1 to 64, default 8.
	LookUpWorkers int `mapstructure:"lookUpWorkers"`
	// RelabelGrace is how long images stay on a node whose labels no longer match; 0s to
	// 720h, default 1h.
	RelabelGrace time.Duration `mapstructure:"relabelGrace"`
	// SandboxImage has every node keep the image that its container runtime makes pod
	// sandboxes of, without an ImageCache; default true.
	SandboxImage bool `mapstructure:"sandboxImage"`
	// LeaderElect lets one of several replicas work at a time; default true.
	LeaderElect bool `mapstructure:"leaderElect"`
	// LeaseDuration, RenewDeadline and RetryPeriod time the election; default 15s, 10s
	// and 2s.
	LeaseDuration time.Duration `mapstructure:"leaseDuration"`
	RenewDeadline time.Duration `mapstructure:"renewDeadline"`
	RetryPeriod   time.Duration `mapstructure:"retryPeriod"`
	// ServeAddress is where /healthz, /readyz and /metrics are served by plain HTTP;
	// default :8080, "" serves nothing.
	ServeAddress string `mapstructure:"serveAddress"`
	// Profiling adds /debug/pprof there; default false.
	Profiling bool `mapstructure:"profiling"`
	// Registries says how registries are reached; see access.Registry.
	Registries []access.Registry `mapstructure:"registries"`
	// Limits say what the ImageCaches of a namespace may ask for; see limits.Limit.
	Limits limits.Limits `mapstructure:"limits"`
	// RegistryTimeout bounds one look-up; 1s to 10m, default 30s.
	RegistryTimeout time.Duration `mapstructure:"registryTimeout"`
	// RegistryRequests bounds concurrent requests to one registry; 1 to 64, default 8.
	RegistryRequests int `mapstructure:"registryRequests"`
	// GuardedRanges are addresses, such as those of pods and Services, that no registry may
	// lead the controller to, besides those of this machine, its link and clouds' metadata.
	GuardedRanges []string `mapstructure:"guardedRanges"`
	// AllowedHosts are token servers and blob stores that may be at guarded addresses.
	AllowedHosts []string `mapstructure:"allowedHosts"`
}

func defaults() *config {
	a := access.Default()
	return &config{
		KubeAPIQPS: 200, KubeAPIBurst: 400, NodeWorkers: 16, LookUpWorkers: 8, RelabelGrace: time.Hour, SandboxImage: true,
		LeaderElect: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		ServeAddress:    ":8080",
		RegistryTimeout: a.Timeout, RegistryRequests: a.MaxRequestsPerHost,
	}
}

func (c *config) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "path of a kubeconfig; empty uses the pod's service account")
	fs.Float32Var(&c.KubeAPIQPS, "kube-api-qps", c.KubeAPIQPS, "requests to the API server per second")
	fs.IntVar(&c.KubeAPIBurst, "kube-api-burst", c.KubeAPIBurst, "requests to the API server in a burst")
	fs.IntVar(&c.NodeWorkers, "node-workers", c.NodeWorkers, "nodes written at a time, 1 to 256")
	fs.IntVar(&c.LookUpWorkers, "look-up-workers", c.LookUpWorkers, "images looked up at a time, 1 to 64")
	fs.DurationVar(&c.RelabelGrace, "relabel-grace", c.RelabelGrace, "time that images stay on a node whose labels no longer match, 0s to 720h")
	fs.BoolVar(&c.SandboxImage, "sandbox-image", c.SandboxImage, "have every node keep the sandbox (pause) image of its container runtime")
	fs.BoolVar(&c.LeaderElect, "leader-elect", c.LeaderElect, "let one of several replicas work at a time")
	fs.DurationVar(&c.LeaseDuration, "lease-duration", c.LeaseDuration, "time after which another replica takes over")
	fs.DurationVar(&c.RenewDeadline, "renew-deadline", c.RenewDeadline, "time after which a leader that cannot renew gives up")
	fs.DurationVar(&c.RetryPeriod, "retry-period", c.RetryPeriod, "time between tries to lead")
	fs.StringVar(&c.ServeAddress, "serve-address", c.ServeAddress, `where /healthz, /readyz and /metrics are served by plain HTTP; "" serves nothing`)
	fs.BoolVar(&c.Profiling, "profiling", c.Profiling, "serve /debug/pprof, too")
	fs.DurationVar(&c.RegistryTimeout, "registry-timeout", c.RegistryTimeout, "time for one look-up of an image, 1s to 10m")
	fs.IntVar(&c.RegistryRequests, "registry-requests", c.RegistryRequests, "concurrent requests to one registry, 1 to 64")
	fs.StringSliceVar(&c.GuardedRanges, "guarded-ranges", c.GuardedRanges, "ranges of addresses, such as those of pods and Services, that no registry may lead the controller to")
	fs.StringSliceVar(&c.AllowedHosts, "allowed-hosts", c.AllowedHosts, "token servers and blob stores that may be at guarded addresses: host, host:port or *.corp.example")
}

func (c *config) access() access.Settings {
	return access.Settings{
		Registries: c.Registries, Timeout: c.RegistryTimeout, MaxRequestsPerHost: c.RegistryRequests,
		GuardedRanges: c.GuardedRanges, AllowedHosts: c.AllowedHosts,
	}
}

// Validate names what is wrong with the settings.
func (c *config) Validate() field.ErrorList {
	var errs field.ErrorList
	number := func(name string, value, least, most int) {
		if value < least || value > most {
			errs = append(errs, field.Invalid(field.NewPath(name), value, rangeMessage(least, most)))
		}
	}
	number("nodeWorkers", c.NodeWorkers, 1, 256)
	number("lookUpWorkers", c.LookUpWorkers, 1, 64)
	if c.RelabelGrace < 0 || c.RelabelGrace > 720*time.Hour {
		errs = append(errs, field.Invalid(field.NewPath("relabelGrace"), c.RelabelGrace.String(), "must be from 0s to 720h"))
	}
	if c.KubeAPIQPS <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("kubeApiQps"), c.KubeAPIQPS, "must be greater than 0"))
	}
	if c.LeaderElect && (c.RenewDeadline >= c.LeaseDuration || c.RetryPeriod >= c.RenewDeadline) {
		errs = append(errs, field.Invalid(field.NewPath("leaseDuration"), c.LeaseDuration.String(),
			"must be greater than renewDeadline, and that greater than retryPeriod"))
	}
	if c.RegistryTimeout < time.Second || c.RegistryTimeout > 10*time.Minute {
		errs = append(errs, field.Invalid(field.NewPath("registryTimeout"), c.RegistryTimeout.String(), "must be from 1s to 10m"))
	}
	number("registryRequests", c.RegistryRequests, 1, 64)
	if err := program.CheckAddress(c.ServeAddress); err != nil {
		errs = append(errs, field.Invalid(field.NewPath("serveAddress"), c.ServeAddress, err.Error()))
	}
	errs = append(errs, c.Limits.Validate()...)
	return append(errs, access.Settings{Registries: c.Registries, GuardedRanges: c.GuardedRanges, AllowedHosts: c.AllowedHosts}.Validate()...)
}

package main

import (
	"os"
	"time"

	"github.com/spf13/pflag"
)

// Runtimes that the agent can work with.
const (
	runtimeContainerd = "containerd"
	runtimeCRI        = "cri"
	runtimeLayout     = "layout"
)

// config is what the agent is told. Each field is a key of the file given with --config, a
// flag, and a variable EDGECACHE_<NAME>.
type config struct {
	// NodeName is the name of the Node; default the host name.
	NodeName string `mapstructure:"nodeName"`
	// Kubeconfig is the path of a kubeconfig; "" uses the pod's service account.
	Kubeconfig string `mapstructure:"kubeconfig"`
	// Manifest is a directory of ImageCache files to work from, without any API server.
	Manifest string `mapstructure:"manifest"`
	// NodeLabels are the node's labels, as key=value, where Manifest is given: selectors
	// look at them. Host name, operating system and architecture are labels without that.
	NodeLabels []string `mapstructure:"nodeLabels"`
	// StateDir holds what the agent remembers; default /var/lib/edgecache.
	StateDir string `mapstructure:"stateDir"`
	// Runtime is containerd, cri or layout; default "", what fits the runtime that is found.
	Runtime string `mapstructure:"runtime"`
	// RuntimeEndpoint is the socket of the runtime; default "", found by itself.
	RuntimeEndpoint string `mapstructure:"runtimeEndpoint"`
	// Namespace in containerd that the kubelet uses; default k8s.io.
	Namespace string `mapstructure:"namespace"`
	// Snapshotter of containerd that the kubelet uses; "" asks containerd.
	Snapshotter string `mapstructure:"snapshotter"`
	// LayoutDir holds the images with runtime layout; default <stateDir>/images.
	LayoutDir string `mapstructure:"layoutDir"`
	// CRIOConfigDir is CRI-O's folder of drop-in configuration, where images are pinned;
	// default /etc/crio/crio.conf.d. "", or a folder that is not there, pins nothing on CRI-O.
	CRIOConfigDir string `mapstructure:"crioConfigDir"`
	// HostsDirs hold hosts.toml files per registry, as containerd's config_path does.
	// Default: those of the distribution that is found, and the usual ones.
	HostsDirs []string `mapstructure:"hostsDirs"`
	// DockerConfig is a docker config file with pull credentials, read anew for each
	// pull and tried after those that the controller sealed for the node; default the kubelet's, /var/lib/kubelet/config.json. A file that is not there
	// is no credentials.
	DockerConfig string `mapstructure:"dockerConfig"`
	// ImageCredentialProviderConfig is the kubelet's CredentialProviderConfig, a file or a
	// folder: its plugins are asked after the docker config file. Default "", none.
	ImageCredentialProviderConfig string `mapstructure:"imageCredentialProviderConfig"`
	// ImageCredentialProviderBinDir is the folder of these plugins.
	ImageCredentialProviderBinDir string `mapstructure:"imageCredentialProviderBinDir"`
	// Workers is how many images are brought in at a time; 1 to 16, default 2.
	Workers int `mapstructure:"workers"`
	// BlobsAtOnce is how many blobs of an image are fetched at a time; 1 to 16, default 3.
	BlobsAtOnce int `mapstructure:"blobsAtOnce"`
	// Poll is how often the runtime is looked at without a hint, 1s at least; 0 (default) is
	// 5 minutes, or 30 seconds for a runtime that gives no hints.
	Poll time.Duration `mapstructure:"poll"`
	// BandwidthLimit is bytes per second for all pulls together, such as 2Mi; at least
	// 16Ki, default "": none.
	BandwidthLimit string `mapstructure:"bandwidthLimit"`
	// VerifyRate is bytes per second that are read of the images that are held, after an
	// unclean boot, such as 8Mi (default); at least 64Ki.
	VerifyRate string `mapstructure:"verifyRate"`
	// PullWindows are when images may be pulled, such as "0 1 * * * for 4h in
	// Europe/Lisbon"; default none: always.
	PullWindows []string `mapstructure:"pullWindows"`
	// ProbeInterval is how often a registry that is down is asked whether it is back, while
	// an image waits for it; 0 never asks, for links that are paid by the byte; default 30s.
	ProbeInterval time.Duration `mapstructure:"probeInterval"`
	// GuardedRanges are addresses that no registry may lead the agent to, besides loopback,
	// link-local and metadata ones; default none.
	GuardedRanges []string `mapstructure:"guardedRanges"`
	// AllowedHosts may be at guarded addresses; default none. Registries that images name,
	// their mirrors and HTTP proxies need not be listed.
	AllowedHosts []string `mapstructure:"allowedHosts"`
	// DiskReserve of the image file system stays free when images come in: a share such as
	// "10%" or bytes such as "2Gi"; "" keeps clear of the kubelet's image garbage collection
	// and evictions, as KubeletConfig says.
	DiskReserve string `mapstructure:"diskReserve"`
	// KubeletConfig is the kubelet's configuration file; default
	// /var/lib/kubelet/config.yaml. One that is not there has the kubelet's defaults.
	KubeletConfig string `mapstructure:"kubeletConfig"`
	// ServeAddress is where /healthz, /readyz and /metrics are served by plain HTTP;
	// default 127.0.0.1:10459, "" serves nothing.
	ServeAddress string `mapstructure:"serveAddress"`
	// Profiling adds /debug/pprof there and on the agent's socket; default false.
	Profiling bool `mapstructure:"profiling"`
}

func defaults() *config {
	host, err := os.Hostname()
	if err != nil {
		host = "" // validate asks for --node-name
	}
	return &config{
		NodeName: host, StateDir: "/var/lib/edgecache",
		Namespace:    "k8s.io",
		DockerConfig: "/var/lib/kubelet/config.json", CRIOConfigDir: "/etc/crio/crio.conf.d",
		Workers: 2, BlobsAtOnce: 3,
		VerifyRate:    "8Mi",
		KubeletConfig: "/var/lib/kubelet/config.yaml",
		ServeAddress:  "127.0.0.1:10459",
		ProbeInterval: 30 * time.Second,
	}
}

func (c *config) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.NodeName, "node-name", c.NodeName, "name of the Node")
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "path of a kubeconfig; empty uses the pod's service account")
	fs.StringVar(&c.Manifest, "manifest", c.Manifest, "directory of ImageCache files (*.yaml, *.yml, *.json) to work from, with no API server at all")
	fs.StringSliceVar(&c.NodeLabels, "node-labels", c.NodeLabels, "labels of the node, key=value,…, that selectors look at; with --manifest")
	fs.StringVar(&c.StateDir, "state-dir", c.StateDir, "directory for what the agent remembers")
	fs.StringVar(&c.Runtime, "runtime", c.Runtime, "what keeps the images: containerd, cri (any runtime with a CRI socket) or layout (an OCI image layout, no runtime); empty picks by the socket")
	fs.StringVar(&c.RuntimeEndpoint, "runtime-endpoint", c.RuntimeEndpoint, "socket of the container runtime; empty finds it")
	fs.StringVar(&c.Namespace, "namespace", c.Namespace, "namespace in containerd that the kubelet uses")
	fs.StringVar(&c.Snapshotter, "snapshotter", c.Snapshotter, "snapshotter that the kubelet uses; empty asks containerd")
	fs.StringVar(&c.LayoutDir, "layout-dir", c.LayoutDir, "directory for the images with --runtime layout (default <state-dir>/images)")
	fs.StringVar(&c.CRIOConfigDir, "crio-config-dir", c.CRIOConfigDir, "CRI-O's folder of drop-in configuration, where images are pinned; empty pins none there")
	fs.StringSliceVar(&c.HostsDirs, "hosts-dirs", c.HostsDirs, "directories with hosts.toml files per registry: mirrors, CAs, plain HTTP; empty takes the usual ones of the runtime")
	fs.StringVar(&c.DockerConfig, "docker-config", c.DockerConfig, "docker config file with pull credentials; need not exist")
	fs.StringVar(&c.ImageCredentialProviderConfig, "image-credential-provider-config", c.ImageCredentialProviderConfig, "the kubelet's configuration of credential provider plugins, a file or a folder")
	fs.StringVar(&c.ImageCredentialProviderBinDir, "image-credential-provider-bin-dir", c.ImageCredentialProviderBinDir, "folder of the kubelet's credential provider plugins")
	fs.IntVar(&c.Workers, "workers", c.Workers, "images brought in at a time, 1 to 16")
	fs.IntVar(&c.BlobsAtOnce, "blobs-at-once", c.BlobsAtOnce, "blobs of an image fetched at a time, 1 to 16")
	fs.StringVar(&c.DiskReserve, "disk-reserve", c.DiskReserve, "what stays free of the image file system, such as 10% or 2Gi; empty keeps clear of the kubelet's image garbage collection and evictions")
	fs.StringVar(&c.KubeletConfig, "kubelet-config", c.KubeletConfig, "the kubelet's configuration file, for its thresholds and what it asks registries; need not exist")
	fs.DurationVar(&c.Poll, "poll", c.Poll, "time between looks at the runtime without a hint that something changed; 0 picks one")
	fs.StringVar(&c.VerifyRate, "verify-rate", c.VerifyRate, "bytes per second that are read to verify images after an unclean boot, such as 8Mi, at least 64Ki")
	c.addLinkFlags(fs)
	fs.StringVar(&c.ServeAddress, "serve-address", c.ServeAddress, `where /healthz, /readyz and /metrics are served by plain HTTP; "" serves nothing`)
	fs.BoolVar(&c.Profiling, "profiling", c.Profiling, "serve /debug/pprof, too")
}

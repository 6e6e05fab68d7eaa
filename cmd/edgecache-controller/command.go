package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/restclient" // requests to the API server
	_ "k8s.io/component-base/metrics/prometheus/workqueue"  // keys that wait
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/cmd/internal/program"
	"edgecache.dev/controller"
	"edgecache.dev/controller/metrics"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/resolve"
)

const long = `Turns ImageCaches into what each node should hold.

The controller looks up every image that an ImageCache names, freezes each tag to
one digest for the whole fleet, writes each node's share into its NodeImageCache,
and sums up in the status of each ImageCache how far the fleet is. It never
touches a node itself: the edge agents do.

Run it in the cluster under its service account, or anywhere with --kubeconfig.
Any number of replicas may run; one works at a time (--leader-elect).

Settings come from defaults, then the file given with --config, then environment
variables (EDGECACHE_NODE_WORKERS=32), then flags. How registries are reached, and
what the ImageCaches of a namespace may ask for, is set in the file:

  registries:
  - hosts: ["registry.example:5000"]      # several hosts, and *.globs, are allowed
    caFile: /etc/edgecache/ca.pem
  - hosts: ["registry.lab:5000"]
    plainHTTP: true
  - hosts: ["docker.io"]
    mirrors: ["https://mirror.example/docker"]
    proxy: http://proxy.example:3128
  limits:                                 # the first entry for a namespace counts
  - namespaces: ["team-*"]
    registries: ["registry.example:5000"] # where images may come from
    maxPriority: 100`

func newCommand() *cobra.Command {
	c := defaults()
	cmd := &cobra.Command{
		Use:          "edgecache-controller",
		Short:        "Turns ImageCaches into what each node should hold",
		Long:         long,
		Args:         cobra.NoArgs,
		Version:      version.Get().GitVersion,
		SilenceUsage: true, SilenceErrors: true,
		Example: `  edgecache-controller --kubeconfig ~/.kube/config --leader-elect=false
  edgecache-controller --config /etc/edgecache/controller.yaml`,
	}
	c.addFlags(cmd.Flags())
	program.Serve(cmd, c, func(ctx context.Context) error { return run(ctx, c) })
	return cmd
}

func run(ctx context.Context, c *config) error {
	klog.FromContext(ctx).Info("Starting", "program", "edgecache-controller", "version", version.Get().GitVersion, "config", c)
	restConfig, err := clientConfig(c)
	if err != nil {
		return err
	}
	// Protobuf is for the built-in kinds only; custom resources are JSON.
	kubeConfig := rest.CopyConfig(restConfig)
	kubeConfig.ContentType, kubeConfig.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	kube, err := kubernetes.NewForConfig(kubeConfig)
	if err != nil {
		return fmt.Errorf("making Kubernetes client: %w", err)
	}
	edge, err := versioned.NewForConfig(restConfig)
	if err != nil {
		return fmt.Errorf("making client for edgecache.dev: %w", err)
	}
	resolver, err := resolve.New(c.access(), access.WithUserAgent("edgecache-controller/"+version.Get().GitVersion))
	if err != nil {
		return fmt.Errorf("setting up registries: %w", err)
	}
	defer resolver.Close()
	o := controller.Options{
		Kube: kube, Edge: edge, Resolver: resolver, NodeWorkers: c.NodeWorkers, LookUpWorkers: c.LookUpWorkers,
		RelabelGrace: c.RelabelGrace, SandboxImage: c.SandboxImage, Limits: c.Limits, Metrics: metrics.New(),
	}
	o.Metrics.Register(legacyregistry.MustRegister)
	return serve(ctx, c, kube, o)
}

// serve works, and tells how it goes.
func serve(ctx context.Context, c *config, kube kubernetes.Interface, o controller.Options) error {
	d := newDuty()
	endpoints := program.Endpoints{Address: c.ServeAddress, Profiling: c.Profiling, Health: d.health, Ready: d.ready}
	stop, err := endpoints.Serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	work := func(ctx context.Context) error {
		ctl, err := controller.New(o)
		if err != nil {
			return err
		}
		d.work.Store(ctl)
		return ctl.Run(ctx)
	}
	if !c.LeaderElect {
		return work(ctx)
	}
	return lead(ctx, kube, c, d.election, work)
}

// clientConfig finds the API server: the given kubeconfig, else the pod's service account.
func clientConfig(c *config) (*rest.Config, error) {
	rc, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("finding the API server (outside a cluster, give --kubeconfig): %w", err)
	}
	rc.QPS, rc.Burst = c.KubeAPIQPS, c.KubeAPIBurst
	rc.UserAgent = "edgecache-controller/" + version.Get().GitVersion
	return rc, nil
}

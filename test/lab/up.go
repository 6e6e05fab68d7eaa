package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/toolchain"
	"edgecache.dev/test/product"
)

// upFlags are the flags of lab up.
type upFlags struct {
	runtime                string
	nodes, sites           int
	controllers, scheduler bool
	edgecache              bool
	crds, dir, logs        string
}

func newUpCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster and keep it until ^C",
		Long: `up starts a cluster with edgecache in it, prints how to use it and keeps it until ^C (or SIGTERM, or the end of the terminal); then it
removes everything. The first start in a checkout builds what it needs, which takes minutes; later ones take seconds.`,
		Example: `  # three nodes without privileges, in two sites
  go run ./test/lab up --nodes 3 --sites 2

  # as root: two real nodes that run pods
  go run ./test/lab up --nodes 2 --runtime containerd`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), f, cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.runtime, "runtime", string(cluster.Layout), "what nodes run on: layout or containerd")
	flags.IntVar(&f.nodes, "nodes", 1, "number of nodes")
	flags.IntVar(&f.sites, "sites", 1, "number of sites that nodes are dealt out to; 0 leaves them without a site")
	flags.BoolVar(&f.controllers, "controller-manager", true, "run kube-controller-manager")
	flags.BoolVar(&f.scheduler, "scheduler", true, "run kube-scheduler")
	flags.BoolVar(&f.edgecache, "edgecache", true, "run edgecache: its CRDs, its controller, an agent per node")
	flags.StringVar(&f.crds, "crds", "", "folder of CustomResourceDefinitions to install")
	flags.StringVar(&f.dir, "dir", "", "folder of the lab, which then stays (default a temporary one)")
	flags.StringVar(&f.logs, "logs", "", "folder of the logs, which then stays (default one within the lab's)")
	return cmd
}

// options are what the flags say.
func (f upFlags) options(out io.Writer) (cluster.Options, error) {
	runtime, err := cluster.ParseRuntime(f.runtime)
	if err != nil {
		return cluster.Options{}, err
	}
	o := cluster.Options{
		Runtime: runtime, Nodes: f.nodes, Sites: f.sites, CRDs: f.crds, Dir: f.dir, LogDir: f.logs, Out: out,
	}
	if f.controllers {
		o.ControllerManager = &controlplane.ControllerManager{}
	}
	if f.scheduler {
		o.Scheduler = &controlplane.Scheduler{}
	}
	if o.Command, err = os.Executable(); err != nil {
		return o, err
	}
	o.Tools, err = toolchain.Here(out)
	return o, err
}

func up(ctx context.Context, f upFlags, out io.Writer) error {
	o, err := f.options(out)
	if err != nil {
		return err
	}
	// Not for the lab, but for whoever uses it.
	if err := o.Tools.Lab(ctx, "kubectl"); err != nil {
		return err
	}
	begin := time.Now()
	c, err := cluster.Start(ctx, o)
	if err != nil {
		return err
	}
	// Also when this function panics; closed twice is closed once.
	defer func() { _ = c.Close() }()
	if f.edgecache {
		p, err := product.Run(ctx, c)
		if err != nil {
			return err
		}
		defer func() { _ = p.Close() }()
	}
	fmt.Fprintf(out, "the lab is up after %.1fs\n\n", time.Since(begin).Seconds())
	explain(out, c)
	<-ctx.Done()
	fmt.Fprintln(out, "\nremoving the lab")
	return c.Close()
}

// explain prints how to use the cluster.
func explain(out io.Writer, c *cluster.Cluster) {
	registry := c.Registry().Addr()
	fmt.Fprintf(out, `  export KUBECONFIG=%s
  export PATH=%s:$PATH

  kubectl get nodes -o wide
  registry   %s (plain HTTP; push with any client: %s/app:v1)
  API server %s
  logs       %s
`, c.ControlPlane().AdminKubeconfig(), c.Tools().Bin(), registry, registry, c.ControlPlane().URL(), c.LogDir())
	for _, n := range c.Nodes() {
		fmt.Fprintf(out, "  %-10s %s %s folder %s\n", n.Name(), n.Site(), n.IP(), n.Dir())
	}
	fmt.Fprintln(out, "\n^C removes everything")
}

func newBuildCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "build [name...]",
		Short:     "Build the lab's binaries into .cache/bin",
		Long:      "build builds the named binaries of the lab, or all of them, if they are missing or out of date.",
		ValidArgs: toolchain.Names(),
		Args:      cobra.OnlyValidArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			tools, err := toolchain.Here(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			if len(names) == 0 {
				names = toolchain.Names()
			}
			if err := tools.Lab(cmd.Context(), names...); err != nil {
				return err
			}
			_, err = tools.LabCommand(cmd.Context())
			return err
		},
	}
}

func newProbeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "probe",
		Short: "Tell what the lab can do on this machine",
		Long: `probe tells whether containerd nodes can run on this machine, and what is missing; then it exits with status 1.
Without traffic control they can, but the bandwidth of their links cannot be limited.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report := cluster.Probe()
			if err := report.Err(); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "containerd nodes can run on this machine")
			if report.NoBandwidth != "" {
				fmt.Fprintln(cmd.OutOrStdout(), "bandwidth of their links cannot be limited: "+report.NoBandwidth)
			}
			return nil
		},
	}
}

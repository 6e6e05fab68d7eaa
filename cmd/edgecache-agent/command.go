package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"

	"edgecache.dev/cmd/internal/program"
	"edgecache.dev/edgeagent/store"
)

const long = `Holds the images of one node to what its NodeImageCache asks for.

The agent remembers the wish on disk. It pulls missing images, brings back lost
ones and removes unwanted ones whether or not the API server can be reached, and
reports when it can. A pull that is cut off goes on where it stopped.`

// newCommand makes the command tree. Commands whose exit status means something set code.
func newCommand(code *int) *cobra.Command {
	cmd := &cobra.Command{
		Use:          "edgecache-agent",
		Short:        "Holds the images of one node to what its NodeImageCache asks for",
		Long:         long,
		Version:      version.Get().GitVersion,
		SilenceUsage: true, SilenceErrors: true,
	}
	cmd.AddCommand(newRun(), newInstall(), newStatus(code), newHealth(), newStore(code))
	return cmd
}

func newRun() *cobra.Command {
	c := defaults()
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Work until told to stop",
		Long: long + `

Settings come from defaults, then the file given with --config, then environment
variables (EDGECACHE_NODE_NAME=node-1), then flags.`,
		Example: `  # On a node, with a token of the ServiceAccount edgecache-agent that is bound to the Node,
  # or with the kubelet's own kubeconfig where edgeagent/rbac-kubelet.yaml was applied:
  edgecache-agent run --node-name $(hostname) --kubeconfig /etc/edgecache/agent.kubeconfig

  # Without an API server, by the ImageCaches in the files of a directory, and without any
  # container runtime, into an OCI image layout:
  edgecache-agent run --manifest /etc/edgecache/manifests --node-labels site=lisbon \
    --runtime layout --layout-dir /srv/images`,
		Args: cobra.NoArgs,
	}
	c.addFlags(cmd.Flags())
	program.Serve(cmd, c, func(ctx context.Context) error { return run(ctx, c, "/") })
	return cmd
}

func newStore(code *int) *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "Look into the agent's memory"}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Read every record of a store file and say whether it is intact",
		Long: `Reads every record of a store file and says whether it is intact.

Exit status: 0 intact, 3 damaged, 4 another process has the file open, 1 the file
could not be read for another reason. The agent runs this on its own store before
it opens it, because some damage ends the process that reads it.`,
		Example: "  edgecache-agent store check /var/lib/edgecache/state.db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := store.CheckFile(args[0])
			*code = store.ExitCode(err)
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is intact\n", args[0])
			}
			return err
		},
	}, newDump())
	return cmd
}

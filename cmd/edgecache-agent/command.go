package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/version"

	"edgecache.dev/cmd/internal/settings"
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
	cmd.AddCommand(newRun(), newStore(code))
	return cmd
}

func newRun() *cobra.Command {
	c := defaults()
	logging := logsapi.NewLoggingConfiguration()
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Work until told to stop",
		Long: long + `

Settings come from defaults, then the file given with --config, then environment
variables (EDGECACHE_NODE_NAME=node-1), then flags.`,
		Example: `  # On a node with containerd:
  edgecache-agent run --node-name $(hostname) --kubeconfig /etc/kubernetes/kubelet.conf

  # Without any container runtime, into an OCI image layout:
  edgecache-agent run --runtime layout --layout-dir /srv/images --state-dir /var/lib/edgecache`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	file := fs.String("config", "", "file with settings, YAML or JSON; an unknown key is an error")
	c.addFlags(fs)
	logsapi.AddFlags(logging, fs)
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := settings.Load(settings.Sources{File: *file, EnvPrefix: "EDGECACHE", Flags: fs}, c); err != nil {
			return err
		}
		if errs := c.validate(); len(errs) > 0 {
			return errs.ToAggregate()
		}
		if err := logsapi.ValidateAndApply(logging, nil); err != nil {
			return fmt.Errorf("setting up logging: %w", err)
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return run(ctx, c)
	}
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
	})
	return cmd
}

package main

import (
	"cmp"
	"os"

	"github.com/spf13/cobra"

	"edgecache.dev/cmd/internal/program"
	"edgecache.dev/edgeagent/local"
)

// newHealth makes the command that a kubelet probes the agent with. It asks on the agent's
// socket: a port may be another program's, and the agent would be killed for what that says.
func newHealth() *cobra.Command {
	dir := cmp.Or(os.Getenv(program.EnvPrefix+"_STATE_DIR"), defaults().StateDir)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Say whether the agent on this node is well, for probes",
		Long: `Asks the agent on this node for what it serves as /healthz, on the socket in its state
directory: whether its loop turns. It depends on no network, on no port and on no
container runtime.

Exit status: 0 it is well, 1 it is not, or no agent answers.`,
		Example: `  edgecache-agent health

  # In a pod:
  livenessProbe:
    exec: {command: [edgecache-agent, health]}
    initialDelaySeconds: 60
    periodSeconds: 60
    timeoutSeconds: 10
    failureThreshold: 5`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return local.Healthy(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "state-dir", dir, "directory for what the agent remembers, as it was started with")
	_ = cmd.MarkFlagDirname("state-dir")
	return cmd
}

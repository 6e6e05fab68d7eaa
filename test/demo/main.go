// Command demo shows edgecache's main job on this machine, step by step, and checks each
// step: images come to the nodes that an ImageCache selects, stay there while the API
// server is away, and what happened meanwhile is reported when it is back.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nThe demo did not succeed:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var runtime string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job of edgecache on this machine",
		Long: `Starts a small cluster on this machine, caches two images on its nodes, cuts the
cluster off from its API server, and shows that the images stay.

With --runtime layout (default) it needs no root and no container runtime: nodes keep
images in OCI image layouts. With --runtime containerd, as root and with runc, nodes are
real containerd and kubelet, and at the end a pod starts while the registry is stopped.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), runtime, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&runtime, "runtime", "layout", "what keeps the images: layout or containerd")
	return cmd
}

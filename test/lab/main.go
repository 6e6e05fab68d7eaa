package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

// run executes the command line and returns the exit status.
func run() int {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // As under nohup.
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	// A second ^C ends the lab at once: the kernel and the janitor clear it away.
	context.AfterFunc(ctx, stop)
	if err := newCommand().ExecuteContext(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return 0
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "A real Kubernetes cluster on one small Linux machine",
		Long: `lab starts a real Kubernetes cluster on this machine: etcd, kube-apiserver and the rest, a registry, and nodes.
Everything it runs is built from Go modules, once, into .cache/bin; it pulls no image and needs no container engine.

Nodes come in two kinds. A layout node runs no containers: it is a Node object that the lab keeps Ready, for agents
that keep images in a folder; it needs no privileges. A containerd node is a machine of its own with real containerd
and kubelet; it needs root and runc.

Whatever ends the lab (^C, a crash, kill -9), nothing of it stays: no process, mount, network device or control group.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newUpCommand(), newBuildCommand(), newProbeCommand(), newJanitorCommand(), newCapsuleCommand())
	return root
}

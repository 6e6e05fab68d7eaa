package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"edgecache.dev/cmd/edgecache-agent/install"
	"edgecache.dev/cmd/internal/settings"
)

// installation is what the command line of install says.
type installation struct {
	install.Machine
	systemd, staticPod, uninstall, force bool
	image                                string
	imageDirs                            []string
	flags                                *pflag.FlagSet // given settings among others
	config                               *config
}

func newInstall() *cobra.Command {
	how := &installation{config: defaults()}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put the agent onto this node, as systemd unit or static pod",
		Long: `Puts the agent onto a node so that it comes back after a reboot without an API server:
as a systemd unit, with this program as ` + install.Program + `, or as a static
pod. Takes the settings of run and writes those that are given to
` + install.Config + `. Once that was edited it stays as it is, --force aside; without
any setting a later install keeps it in any case.

Without --kubeconfig and --manifest the agent goes by the kubelet's identity: its
kubeconfig is looked for where kubeadm, k3s, RKE2, k0s and MicroK8s have it, and the
cluster needs edgeagent/rbac-kubelet.yaml.`,
		Example: `  edgecache-agent install --systemd
  edgecache-agent install --systemd --bandwidth-limit 512Ki --pull-windows '0 1 * * * for 4h in Europe/Lisbon'

  # From ImageCache files, with no API server:
  edgecache-agent install --systemd --manifest /etc/edgecache/manifests --node-labels site=lisbon

  edgecache-agent install --static-pod --image registry.example/edgecache-agent:v1.0.0

  # Into the image of a machine that is still to join; shown only:
  edgecache-agent install --systemd --root /mnt/image --kubeconfig /etc/kubernetes/kubelet.conf --dry-run

  edgecache-agent install --uninstall`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			how.Out, how.flags = cmd.OutOrStdout(), cmd.Flags()
			return how.run(cmd.Context())
		},
	}
	how.addFlags(cmd.Flags())
	how.config.addFlags(cmd.Flags())
	_ = cmd.MarkFlagDirname("root")
	return cmd
}

func (how *installation) addFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&how.systemd, "systemd", false, "as a systemd unit")
	fs.BoolVar(&how.staticPod, "static-pod", false, "as a static pod; needs --image")
	fs.BoolVar(&how.uninstall, "uninstall", false, "take what install wrote off the node; what the agent remembers and holds stays")
	fs.BoolVar(&how.Dry, "dry-run", false, "write nothing, show what would be written")
	fs.BoolVar(&how.force, "force", false, "replace settings that were edited")
	fs.StringVar(&how.Root, "root", "/", "directory that is the node's root, for images of machines")
	fs.StringVar(&how.image, "image", "", "image of the agent, for a static pod")
	fs.StringSliceVar(&how.imageDirs, "image-dir", nil, "where the runtime keeps images, for a static pod; empty takes those of the usual places that are there")
}

// check names what does not go together.
func (how *installation) check() error {
	switch info, err := os.Stat(how.Root); {
	case how.systemd && how.staticPod:
		return errors.New("--systemd and --static-pod are two ways to start one agent: give one of them")
	case !how.systemd && !how.staticPod && !how.uninstall:
		return errors.New("say how the agent is to be started: --systemd, or --static-pod --image IMAGE (or --uninstall)")
	case err != nil:
		return fmt.Errorf("--root: %w", err)
	case !info.IsDir():
		return fmt.Errorf("--root %s is no directory", how.Root)
	case how.staticPod && how.image == "" && !how.uninstall:
		return errors.New("a static pod needs the agent's image: give --image, such as registry.example/edgecache-agent:v1.0.0")
	case how.systemd && (how.image != "" || len(how.imageDirs) > 0):
		return errors.New("--image and --image-dir are for static pods; a systemd unit runs this program: leave them out, or give --static-pod")
	}
	return nil
}

func (how *installation) run(ctx context.Context) error {
	if err := how.check(); err != nil {
		return err
	}
	if how.uninstall {
		return how.remove(ctx)
	}
	if err := how.alone(); err != nil {
		return err
	}
	files, err := how.settle()
	if err != nil {
		return err
	}
	if errs := append(how.config.Validate(), how.config.validatePaths()...); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if how.staticPod {
		return how.installPod(files)
	}
	return how.installUnit(ctx, files)
}

// alone sees to it that the agent is not installed in the other way, too: two agents have
// one memory.
func (how *installation) alone() error {
	others, other := how.Present(install.Unit), "--systemd"
	if how.systemd {
		others, other = how.StaticPods(how.config.KubeletConfig), "--static-pod"
	}
	if len(others) > 0 {
		return fmt.Errorf("%s is there, and two agents cannot share a node: run edgecache-agent install %s --uninstall first", others[0], other)
	}
	return nil
}

// settle makes the file with the settings, none where the one that is there is kept, and has
// config say what the agent will go by.
func (how *installation) settle() ([]install.File, error) {
	there, edited, err := how.Kept()
	if err != nil {
		return nil, err
	}
	values := settings.Given(how.flags, how.config)
	if there && !how.force && (edited || len(values) == 0) {
		if edited && len(values) > 0 {
			how.Say("%s was edited and stays as it is: the settings given here do not count (--force replaces it)", install.Config)
		}
		how.config = defaults()
		return nil, settings.Load(settings.Sources{File: filepath.Join(how.Root, install.Config)}, how.config)
	}
	if how.config.Kubeconfig == "" && how.config.Manifest == "" {
		if how.config.Kubeconfig, err = how.Kubeconfig(); err != nil {
			return nil, err
		}
		values["kubeconfig"] = how.config.Kubeconfig
	}
	file, err := install.Settings(values)
	return []install.File{file}, err
}

func (how *installation) installUnit(ctx context.Context, files []install.File) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding own executable: %w", err)
	}
	unit, err := install.Systemd(self, how.config.StateDir, how.config.alsoWrites())
	if err != nil {
		return err
	}
	if err := how.MakeDirs(how.config.ownDirs()...); err != nil {
		return err
	}
	changed, err := how.Write(append(files, unit...)...)
	if err != nil {
		return err
	}
	return how.Start(ctx, changed)
}

func (how *installation) installPod(files []install.File) error {
	pod, err := how.pod()
	if err != nil {
		return err
	}
	file, err := install.StaticPod(how.StaticPod(how.config.KubeletConfig), pod)
	if err != nil {
		return err
	}
	if err := how.MakeDirs(how.config.ownDirs()...); err != nil {
		return err
	}
	changed, err := how.Write(append(files, file)...)
	if changed && !how.Dry {
		how.Say("the kubelet starts it, and starts it anew when its file changes; after a change of settings alone, end the container (crictl stop)")
	}
	return err
}

// remove takes off what was installed, in one way or whichever.
func (how *installation) remove(ctx context.Context) error {
	if !how.staticPod && len(how.Present(install.Unit)) > 0 {
		if err := how.Stop(ctx); err != nil {
			return err
		}
		if err := errors.Join(how.Remove(install.Unit, install.Program), how.Forget(ctx)); err != nil {
			return err
		}
	}
	if !how.systemd {
		if err := how.Remove(how.StaticPods(how.config.KubeletConfig)...); err != nil {
			return err
		}
	}
	there, edited, err := how.Kept()
	if there { // for where the state is; a file with a mistake does not keep anybody from uninstalling
		_ = settings.Load(settings.Sources{File: filepath.Join(how.Root, install.Config)}, how.config)
	}
	switch {
	case err != nil:
		return err
	case edited:
		how.Say("%s was edited and stays", install.Config)
	case there:
		err = how.Remove(install.Config)
	}
	how.Say("what the agent remembers (%s) and the images that it brought stay; pinned ones stay pinned", how.config.StateDir)
	return err
}

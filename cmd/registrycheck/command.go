package main

import (
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"

	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/render"
)

// Exit codes. Of several that apply the first in this order counts: usage, something not
// pullable, inconclusive.
const (
	exitPullable     = 0
	exitNotPullable  = 1 // or the images differ from the lock
	exitUsage        = 2 // or an input could not be read
	exitInconclusive = 3
)

const long = `Says whether nodes could pull images, before they have to: the name, the rights, the
manifest, each platform, the configuration and every layer are asked for as a container
runtime would ask, without downloading layers.

What is checked:
  references      registrycheck nginx:1.27 registry.example/app@sha256:…
  manifests       -f FILE, -f FOLDER, -f - for standard input; again and again. Every object
                  that carries a pod template is searched, and ImageCaches. Secrets and
                  ServiceAccounts among them count for the pods that name them.
  a lock          -f LOCK checks what is locked; --verify-lock LOCK what has changed

Exit status: 0 all can be pulled; 1 something cannot, or differs from the lock; 2 wrong
usage, or an input that could not be read (everything else was checked, and is reported);
3 something could not be found out: try again. Where several apply it is 2, then 1, then 3.`

const examples = `  # Could these be pulled, for every platform that they offer?
  registrycheck nginx:1.27 registry.example/team/app:v3

  # Would this upgrade pull? For the platforms of the fleet:
  helm template shop ./chart -f values-edge.yaml | registrycheck -f - --platform linux/amd64,linux/arm64
  kustomize build overlays/edge | registrycheck -f -

  # In a pipeline: annotations beside the lines that name the images
  registrycheck -f deploy/ -o github

  # Lock what was checked; later, has a tag moved? what would each node download?
  registrycheck -f deploy/ --lock images.lock
  registrycheck -f deploy/ --verify-lock images.lock
  registrycheck -f deploy/ --changed-since images.lock

  # What runs in a cluster now, with the pull Secrets that it names
  kubectl get deploy,ds,sts,cronjob,job,sa,imagecache -A -o yaml | registrycheck -f - --pull-secret regcred.yaml

  # For scripts
  registrycheck -f deploy/ -o json | jq -r '.images[] | select(.verdict != "Pullable") | .source + ": " + .message'`

// newCommand makes the command. It leaves the exit code in code, and looks for the user's
// own configuration where env says.
func newCommand(code *int, env func(string) string) *cobra.Command {
	o := &options{timeout: access.DefaultTimeout, output: string(render.Table), runtime: string(registrycheck.Containerd), maxWait: 30 * time.Second}
	cmd := &cobra.Command{
		Use:               "registrycheck [REFERENCE…] [-f FILE|FOLDER|-]…",
		Short:             "Says whether nodes could pull images, before they have to",
		Long:              long,
		Example:           examples,
		Version:           version.Get().GitVersion,
		SilenceUsage:      true,
		SilenceErrors:     true,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			o.references = args
			r := run{options: o, in: cmd.InOrStdin(), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), env: env}
			var err error
			*code, err = r.do(ctx)
			return err
		},
	}
	addFlags(cmd, o)
	return cmd
}

func addFlags(cmd *cobra.Command, o *options) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringArrayVarP(&o.files, "filename", "f", nil, "manifests, or a lock, to check: a file, a folder with all in it, or - for standard input")
	fs.StringSliceVar(&o.platforms, "platform", nil, "platforms of the nodes, OS/ARCH[/VARIANT]; by default all that an image offers")
	fs.StringVarP(&o.output, "output", "o", o.output, "one of "+strings.Join(render.Forms(), ", "))
	fs.BoolVar(&o.full, "full", false, "download and verify every byte")
	fs.BoolVar(&o.signatures, "signatures", false, "say besides what signs each image (not whether that is valid)")

	fs.StringVar(&o.lock, "lock", "", "file to write: what each reference stands for, its platforms, layers and sizes")
	fs.StringVar(&o.verifyLock, "verify-lock", "", "lock to compare with; without other input, its own images are checked")
	fs.StringVar(&o.changedSince, "changed-since", "", "lock of what nodes have: say what each of them must download besides")

	fs.StringArrayVar(&o.pullSecrets, "pull-secret", nil, "file with pull Secrets that count for all images, as if every pod named them")
	fs.StringArrayVar(&o.dockerConfigs, "docker-config", nil, "docker's config.json or podman's auth.json, with credential helpers; by default those of this user; \"none\" for none")

	fs.StringSliceVar(&o.insecure, "insecure-registry", nil, "HOST[:PORT] whose certificate is not verified, or that speaks plain HTTP")
	fs.StringSliceVar(&o.allowHosts, "allow-host", nil, "HOST[:PORT] that a registry may name for logins or data although it is local to this machine")
	fs.StringVar(&o.runtime, "runtime", o.runtime, "what the nodes run: containerd, cri-o or docker")
	fs.DurationVar(&o.timeout, "timeout", o.timeout, "how long one image may take, 1s to 10m")
	fs.DurationVar(&o.maxWait, "max-wait", o.maxWait, "how long one image may wait because its registry asks to come back later")

	fixed := func(flag string, values ...string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	fixed("output", render.Forms()...)
	fixed("platform", "linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x")
	fixed("runtime", string(registrycheck.Containerd), string(registrycheck.CRIO), string(registrycheck.Docker))
}

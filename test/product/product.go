// Package product runs edgecache's own programs in a lab, the way users run them: built
// binaries, under the rights of their service accounts.
//
// It owns nothing but the programs that it starts; the lab ends them.
package product

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/toolchain"
)

// CRDs is where the CustomResourceDefinitions are, below the repository's root.
const CRDs = "charts/edgecache/crds"

// ExampleRegistry is the registry of the examples in docs/. In the lab its images come from
// the lab's registry, by the settings that users have for mirrors.
const ExampleRegistry = "registry.example"

// Version is what the programs under test say that they are.
const Version = "v0.0.0-lab"

// Product is edgecache in a lab.
type Product struct {
	lab      *cluster.Cluster
	programs programs
	tokens   *tokens

	mu          sync.Mutex
	controllers []*process.Process // guarded by mu
}

// Prepare creates the namespace, the CRDs, the policies and the rights.
func Prepare(ctx context.Context, lab *cluster.Cluster) error {
	root := lab.Tools().Root()
	cp := lab.ControlPlane()
	if err := cp.InstallCRDs(ctx, filepath.Join(root, CRDs)); err != nil {
		return err
	}
	if err := makeNamespace(ctx, cp); err != nil {
		return err
	}
	// The policies first: without them the agents' role is one for the whole fleet.
	for _, file := range []string{"edgeagent/admission.yaml", "edgeagent/flowcontrol.yaml", "controller/rbac.yaml", "edgeagent/rbac.yaml"} {
		if _, err := cp.ApplyFile(ctx, filepath.Join(root, file)); err != nil {
			return err
		}
	}
	return nil
}

func makeNamespace(ctx context.Context, cp *controlplane.ControlPlane) error {
	namespace := "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + v1alpha1.SystemNamespace + "}\n"
	if _, err := cp.Apply(ctx, []byte(namespace)); err != nil {
		return fmt.Errorf("making namespace: %w", err)
	}
	return nil
}

// Install prepares the cluster and builds the programs.
func Install(ctx context.Context, lab *cluster.Cluster) (*Product, error) {
	if err := Prepare(ctx, lab); err != nil {
		return nil, err
	}
	built, err := build(ctx, lab.Tools(), toolchain.RaceEnabled)
	if err != nil {
		return nil, err
	}
	tokens, err := keepTokens(ctx, lab.ControlPlane().Admin())
	if err != nil {
		return nil, err
	}
	return &Product{lab: lab, programs: built, tokens: tokens}, nil
}

// Build builds the programs, so that installing them does not wait for it.
func Build(ctx context.Context, tools *toolchain.Toolchain, race bool) error {
	_, err := build(ctx, tools, race)
	return err
}

// Run installs edgecache and starts the controller and an agent on each node.
func Run(ctx context.Context, lab *cluster.Cluster, agentArgs ...string) (*Product, error) {
	p, err := Install(ctx, lab)
	if err != nil {
		return nil, err
	}
	if _, err := p.Controller("controller"); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	for _, n := range lab.Nodes() {
		if _, err := p.Agent(ctx, n, agentArgs...); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// Agent builds the agent alone and gives its path, for labs without an API server.
func Agent(ctx context.Context, tools *toolchain.Toolchain) (string, error) {
	return tools.Product(ctx, "edgecache-agent", how(toolchain.RaceEnabled))
}

func how(race bool) toolchain.Build {
	return toolchain.Build{Ldflags: "-X k8s.io/component-base/version.gitVersion=" + Version, Race: race}
}

// programs are the paths of the built ones. Kept, as each question to the go command whether they are up to date waits for
// whoever builds.
type programs struct{ controller, agent string }

func build(ctx context.Context, tools *toolchain.Toolchain, race bool) (p programs, err error) {
	how := how(race)
	if p.controller, err = tools.Product(ctx, "edgecache-controller", how); err != nil {
		return p, err
	}
	p.agent, err = tools.Product(ctx, "edgecache-agent", how)
	return p, err
}

// Controller starts the controller. It reaches the lab's registry by plain HTTP. It works
// without election unless args say otherwise: a leader that loses its API server ends.
func (p *Product) Controller(name string, args ...string) (*process.Process, error) {
	return p.ControllerWith(name, "", args...)
}

// ControllerWith starts the controller as Controller does, with further settings in YAML.
func (p *Product) ControllerWith(name, more string, args ...string) (*process.Process, error) {
	kubeconfig, err := p.kubeconfig("edgecache-controller")
	if err != nil {
		return nil, err
	}
	settings := filepath.Join(p.lab.Dir(), name+".yaml")
	addr := p.lab.Registry().Addr()
	text := fmt.Sprintf("registries:\n- hosts: [%q]\n  plainHTTP: true\n- hosts: [%q]\n  mirrors: [%q]\n", addr, ExampleRegistry, "http://"+addr)
	if err := os.WriteFile(settings, []byte(text+more), 0o600); err != nil {
		return nil, fmt.Errorf("writing settings of %s: %w", name, err)
	}
	argv := append([]string{p.programs.controller, "--kubeconfig", kubeconfig, "--config", settings, "-v=2",
		"--leader-elect=false", "--serve-address="}, args...)
	proc, err := process.Start(process.Host{}, process.Command{Name: name, Argv: argv, Log: filepath.Join(p.lab.LogDir(), name+".log")})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.controllers = append(p.controllers, proc)
	return proc, nil
}

// Close ends the controllers and the care for the agents' tokens. Agents end with their
// nodes.
func (p *Product) Close() error {
	p.tokens.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for _, c := range p.controllers {
		err = errors.Join(err, c.Kill())
	}
	return err
}

// Agent starts the agent of a node, with the driver that suits the lab's runtime.
func (p *Product) Agent(ctx context.Context, n *node.Node, args ...string) (*process.Process, error) {
	kubeconfig, err := p.agentKubeconfig(ctx, n)
	if err != nil {
		return nil, err
	}
	return p.AgentAs(n, kubeconfig, args...)
}

// AgentAs starts the agent of a node with a kubeconfig of the caller's.
func (p *Product) AgentAs(n *node.Node, kubeconfig string, args ...string) (*process.Process, error) {
	hosts, err := p.hostsDir(n)
	if err != nil {
		return nil, err
	}
	argv := append([]string{p.programs.agent, "run", "--node-name", n.Name(), "--kubeconfig", kubeconfig,
		"--state-dir", StateDir(n), "--hosts-dirs", hosts, "--runtime", string(p.lab.Runtime()), "-v=2",
		"--disk-reserve", "64Mi", "--serve-address="}, p.runtimeArgs(n)...)
	return n.Run("agent", append(argv, args...))
}

// AgentProgram is the path of the agent's program, for commands other than run.
func (p *Product) AgentProgram() string { return p.programs.agent }

// StateDir is where the agent of a node keeps what it remembers.
func StateDir(n *node.Node) string { return filepath.Join(n.Dir(), "edgecache") }

func (p *Product) runtimeArgs(n *node.Node) []string {
	if p.lab.Runtime() == cluster.Containerd {
		return nil // containerd's socket is where the agent looks for it
	}
	return []string{"--layout-dir", LayoutDir(n)}
}

// hostsDir tells the agent how to reach the lab's registry, as certs.d does on a node.
func (p *Product) hostsDir(n *node.Node) (string, error) {
	addr := p.lab.Registry().Addr()
	dir := filepath.Join(n.Dir(), "hosts.d")
	plain := fmt.Sprintf("server = %q\n", "http://"+addr)
	mirror := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "https://"+ExampleRegistry, "http://"+addr)
	for name, text := range map[string]string{strings.Replace(addr, ":", "_", 1) + "_": plain, ExampleRegistry: mirror} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return "", fmt.Errorf("making hosts directory: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "hosts.toml"), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("writing hosts.toml: %w", err)
		}
	}
	return dir, nil
}

// kubeconfig gives a service account's rights by a client certificate in its name.
func (p *Product) kubeconfig(account string) (string, error) {
	return p.lab.ControlPlane().Kubeconfig("system:serviceaccount:"+v1alpha1.SystemNamespace+":"+account,
		"system:serviceaccounts", "system:serviceaccounts:"+v1alpha1.SystemNamespace)
}

package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/clientcmd"

	"edgecache.dev/cmd/edgecache-agent/install"
	"edgecache.dev/edgeagent/runtime/discover"
)

// validatePaths has the other paths begin at the root, too: an installed agent starts in no
// directory that anybody chose.
func (c *config) validatePaths() field.ErrorList {
	var errs field.ErrorList
	for _, p := range []struct{ name, path string }{
		{"kubeconfig", c.Kubeconfig}, {"manifest", c.Manifest}, {"stateDir", c.StateDir}, {"layoutDir", c.LayoutDir},
	} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			errs = append(errs, field.Invalid(field.NewPath(p.name), p.path, "must begin with / to be the same for the agent"))
		}
	}
	return errs
}

// ownDirs are those that the agent makes for itself where it may.
func (c *config) ownDirs() []string {
	dirs := []string{c.StateDir}
	if c.Runtime == runtimeLayout && c.LayoutDir != "" {
		dirs = append(dirs, c.LayoutDir)
	}
	return dirs
}

// alsoWrites are those that it writes to besides the state's.
func (c *config) alsoWrites() []string {
	dirs := c.ownDirs()[1:]
	if c.CRIOConfigDir != "" && c.Runtime != runtimeContainerd && c.Runtime != runtimeLayout {
		dirs = append(dirs, c.CRIOConfigDir)
	}
	return dirs
}

// pod is what the agent needs of the node.
func (how *installation) pod() (install.Pod, error) {
	c := how.config
	p := install.Pod{Image: how.image, NodeName: c.NodeName == defaults().NodeName, StateDir: c.StateDir}
	p.Writes = append([]string{c.StateDir}, how.Present(c.alsoWrites()...)...)
	p.Reads = []string{filepath.Dir(install.Config)}
	p.Add(how.Machine, given(c.DockerConfig, c.KubeletConfig, c.ImageCredentialProviderConfig, c.ImageCredentialProviderBinDir)...)
	if err := how.orders(&p); err != nil {
		return p, err
	}
	hosts := discover.At("").HostsDirs
	if c.Runtime != runtimeLayout {
		found, err := how.runtime(&p)
		if err != nil {
			return p, err
		}
		hosts = found.HostsDirs
	}
	p.Add(how.Machine, orStandard(c.HostsDirs, hosts)...)
	return p, nil
}

// given leaves out what is not set.
func given(all ...string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// orders mounts where the wish comes from: files, or a kubeconfig with what it names. The
// directories of certificates and tokens that are renewed, as that makes new files.
func (how *installation) orders(p *install.Pod) error {
	c := how.config
	if c.Manifest != "" {
		p.Reads = append(p.Reads, c.Manifest)
		return nil
	}
	kubeconfig, err := clientcmd.LoadFromFile(filepath.Join(how.Root, c.Kubeconfig))
	if err != nil {
		return fmt.Errorf("reading the kubeconfig, whose certificates a static pod is given (the node must have joined first): %w", err)
	}
	absolute := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(filepath.Dir(c.Kubeconfig), path)
	}
	p.Files = append(p.Files, c.Kubeconfig)
	for _, cluster := range kubeconfig.Clusters {
		for _, file := range given(cluster.CertificateAuthority) {
			p.Files = append(p.Files, absolute(file))
		}
	}
	for _, user := range kubeconfig.AuthInfos {
		for _, file := range given(user.ClientCertificate, user.ClientKey, user.TokenFile) {
			p.Reads = append(p.Reads, filepath.Dir(absolute(file)))
		}
	}
	return nil
}

// runtime mounts the directories of the runtime's socket, as another socket is there after it
// restarted, and of its images, whose room the agent looks at.
func (how *installation) runtime(p *install.Pod) (discover.Runtime, error) {
	c := how.config
	found := discover.At(c.RuntimeEndpoint)
	if c.RuntimeEndpoint == "" {
		var err error
		if found, err = discover.Find(how.Root, discover.Driver(c.Runtime)); err != nil {
			return found, fmt.Errorf("a static pod is given the directory of the runtime's socket: %w; or name it with --runtime-endpoint", err)
		}
		p.Endpoint = found.Socket
	}
	images := how.imageDirs
	if len(images) == 0 {
		var err error
		if images, err = how.ImageDirs(); err != nil {
			return found, err
		}
	}
	p.Reads = append(append(p.Reads, filepath.Dir(found.Socket)), images...)
	return found, nil
}

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/cmd/internal/program"
	"edgecache.dev/edgeagent/reserve"
)

const (
	// minPoll is how often the runtime is looked at without a hint at most.
	minPoll = time.Second
	// minVerifyRate in bytes per second.
	minVerifyRate = 64 << 10
)

// Validate names what is wrong with the settings.
func (c *config) Validate() field.ErrorList {
	var errs field.ErrorList
	at := func(name string) *field.Path { return field.NewPath(name) }
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at("nodeName"), c.NodeName, msgs[0]+": set --node-name to the name that kubectl get nodes shows"))
	}
	switch c.Runtime {
	case "", runtimeContainerd, runtimeCRI, runtimeLayout:
	default:
		errs = append(errs, field.NotSupported(at("runtime"), c.Runtime, []string{runtimeContainerd, runtimeCRI, runtimeLayout}))
	}
	if c.StateDir == "" {
		errs = append(errs, field.Required(at("stateDir"), "the agent needs a directory that survives reboots"))
	}
	for name, n := range map[string]int{"workers": c.Workers, "blobsAtOnce": c.BlobsAtOnce} {
		if n < 1 || n > 16 {
			errs = append(errs, field.Invalid(at(name), n, "must be from 1 to 16"))
		}
	}
	if c.DiskReserve != "" {
		if _, err := reserve.Parse(c.DiskReserve); err != nil {
			errs = append(errs, field.Invalid(at("diskReserve"), c.DiskReserve, err.Error()))
		}
	}
	if c.ImageCredentialProviderConfig != "" && c.ImageCredentialProviderBinDir == "" {
		errs = append(errs, field.Required(at("imageCredentialProviderBinDir"), "with imageCredentialProviderConfig, set it to the folder of the plugins as for the kubelet"))
	}
	errs = append(errs, c.validateManifest()...)
	if c.Poll != 0 && c.Poll < minPoll {
		errs = append(errs, field.Invalid(at("poll"), c.Poll.String(), "must be 0, which picks one, or at least 1s"))
	}
	if err := program.CheckAddress(c.ServeAddress); err != nil {
		errs = append(errs, field.Invalid(at("serveAddress"), c.ServeAddress, err.Error()))
	}
	if _, err := c.verifyRate(); err != nil {
		errs = append(errs, field.Invalid(at("verifyRate"), c.VerifyRate, err.Error()))
	}
	errs = append(errs, c.validateNodePaths()...)
	return append(errs, c.validateLink()...)
}

// validateNodePaths has the paths begin at the root that need not be there: of a relative one
// nobody would notice that nothing is at its end.
func (c *config) validateNodePaths() field.ErrorList {
	var errs field.ErrorList
	check := func(at *field.Path, value, path string) {
		if path != "" && !filepath.IsAbs(path) {
			errs = append(errs, field.Invalid(at, value, "must begin with /: write the whole path"))
		}
	}
	check(field.NewPath("runtimeEndpoint"), c.RuntimeEndpoint, strings.TrimPrefix(c.RuntimeEndpoint, "unix://"))
	check(field.NewPath("crioConfigDir"), c.CRIOConfigDir, c.CRIOConfigDir)
	check(field.NewPath("dockerConfig"), c.DockerConfig, c.DockerConfig)
	check(field.NewPath("kubeletConfig"), c.KubeletConfig, c.KubeletConfig)
	check(field.NewPath("imageCredentialProviderConfig"), c.ImageCredentialProviderConfig, c.ImageCredentialProviderConfig)
	check(field.NewPath("imageCredentialProviderBinDir"), c.ImageCredentialProviderBinDir, c.ImageCredentialProviderBinDir)
	for i, dir := range c.HostsDirs {
		at := field.NewPath("hostsDirs").Index(i)
		if dir == "" {
			errs = append(errs, field.Required(at, "must be a directory with hosts.toml files per registry, such as /etc/containerd/certs.d"))
		}
		check(at, dir, dir)
	}
	return errs
}

// verifyRate is in bytes per second.
func (c *config) verifyRate() (int64, error) {
	q, err := resource.ParseQuantity(c.VerifyRate)
	if err != nil {
		return 0, errors.New("must be bytes per second such as 8Mi")
	}
	if q.Value() < minVerifyRate {
		return 0, fmt.Errorf("is %d bytes per second, must be at least 64Ki: with less, one image takes days", q.Value())
	}
	return q.Value(), nil
}

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"edgecache.dev/internal/hostglob"
	"edgecache.dev/registrycheck/extract"
	"edgecache.dev/registrycheck/render"
)

// options are what the command line says.
type options struct {
	references, files          []string
	platforms                  []string
	output                     string
	full, signatures           bool
	lock, verifyLock           string
	changedSince               string
	pullSecrets, dockerConfigs []string
	insecure, allowHosts       []string
	runtime                    string
	timeout, maxWait           time.Duration
}

// none as a docker configuration means that none is read.
const none = "none"

// validate says which flag is wrong, and what to write instead.
func (o *options) validate() error {
	if _, err := render.ParseForm(o.output); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	if _, err := o.wanted(); err != nil {
		return err
	}
	for flag, hosts := range map[string][]string{"--insecure-registry": o.insecure, "--allow-host": o.allowHosts} {
		for _, host := range hosts {
			if err := hostglob.Check(host); err != nil {
				return fmt.Errorf("%s %q: %w", flag, host, err)
			}
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(o.files), func(f string) bool { return f != extract.Stdin })); n > 1 {
		return errors.New("-f -: standard input can be read once only")
	}
	switch {
	case len(o.references)+len(o.files) == 0 && o.verifyLock == "":
		return errors.New("nothing to check: name images, or manifests with -f (registrycheck --help has examples)")
	case o.maxWait < 0:
		return fmt.Errorf("--max-wait %s: must not be below 0", o.maxWait)
	}
	return nil
}

// wanted gives the platforms of --platform.
func (o *options) wanted() ([]platforms.Platform, error) {
	var all []platforms.Platform
	for _, s := range o.platforms {
		p, err := platforms.Parse(s)
		if err != nil || strings.Count(s, "/") == 0 {
			return nil, fmt.Errorf("--platform %q: must be OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64 or linux/arm/v7", s)
		}
		all = append(all, platforms.Normalize(p))
	}
	return all, nil
}

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"k8s.io/component-base/version"

	"edgecache.dev/api/imageref"
	"edgecache.dev/internal/hostglob"
	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/access"
)

// checker makes the Checker that the command line asks for.
func (r *run) checker() (*registrycheck.Checker, error) {
	o := r.options
	settings := access.Default()
	settings.Timeout, settings.MaxRequestsPerHost = o.timeout, 0
	settings.AllowedHosts = append(slices.Clone(o.allowHosts), r.local()...)
	checker, err := registrycheck.New(registrycheck.Options{
		Settings: settings, Runtime: registrycheck.Runtime(o.runtime), MaxWait: o.maxWait,
		Access: []access.Option{access.WithUserAgent("registrycheck/" + version.Get().GitVersion), access.WithLocations(insecurely(o.insecure))},
	})
	if err != nil {
		return nil, fmt.Errorf("wrong flag: %w", err)
	}
	return checker, nil
}

// insecurely takes any certificate, or none, of some hosts. All others are reached as
// settings say.
func insecurely(hosts []string) func(imageref.Reference) []access.Location {
	unverified := &access.Wire{TLS: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // as the user asked for these hosts
	return func(ref imageref.Reference) []access.Location {
		if !insecure(hosts, ref.Registry()) {
			return nil
		}
		return []access.Location{{Host: ref.Registry(), Repository: ref.Repository(), Wire: unverified, EitherWay: true}}
	}
}

func insecure(hosts []string, host string) bool {
	return slices.ContainsFunc(hosts, func(pattern string) bool { return hostglob.Match(pattern, host) })
}

// local gives the registries on this machine that the user named: what they name on it is
// meant too, such as a token server on another port.
func (r *run) local() []string {
	var all []string
	for _, s := range r.subjects.all {
		ref, err := imageref.Parse(s.reference)
		if err != nil {
			continue
		}
		host := ref.Registry()
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if addr, err := netip.ParseAddr(host); (err == nil && addr.IsLoopback() || host == "localhost") && !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	return all
}

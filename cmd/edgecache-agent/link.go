package main

import (
	"errors"
	"fmt"
	"time"
	_ "time/tzdata" // pull windows name zones, and small nodes have none installed

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/window"
	"edgecache.dev/internal/dialguard"
	"edgecache.dev/internal/hostglob"
)

// minProbe and maxProbe bound how often a registry is asked whether it is back.
const minProbe, maxProbe = time.Second, 24 * time.Hour

// bufferedSeconds of a limited bandwidth may lie in the kernel before they are read, and
// no less than minBuffer, below which connections do not get along.
const (
	bufferedSeconds = 2
	minBuffer       = 32 << 10
	maxBuffer       = 1 << 20
)

func (c *config) addLinkFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.BandwidthLimit, "bandwidth-limit", c.BandwidthLimit, "bytes per second for all pulls together, such as 512Ki or 2Mi, at least 16Ki; empty is no limit")
	fs.StringArrayVar(&c.PullWindows, "pull-windows", c.PullWindows, "when images may be pulled, such as '0 1 * * * for 4h in Europe/Lisbon'; may be given several times, none is always")
	fs.DurationVar(&c.ProbeInterval, "probe-interval", c.ProbeInterval, "time between questions to a registry that is down whether it is back, while an image waits for it; 0 asks none")
	fs.StringSliceVar(&c.GuardedRanges, "guarded-ranges", c.GuardedRanges, "ranges of addresses, such as those of pods and Services, that no registry may lead the agent to")
	fs.StringSliceVar(&c.AllowedHosts, "allowed-hosts", c.AllowedHosts, "token servers and blob stores that may be at guarded addresses: host, host:port or *.corp.example")
}

func (c *config) validateLink() field.ErrorList {
	var errs field.ErrorList
	if _, err := c.bandwidth(); err != nil {
		errs = append(errs, field.Invalid(field.NewPath("bandwidthLimit"), c.BandwidthLimit, err.Error()))
	}
	for i, s := range c.PullWindows {
		if err := window.Check(s); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("pullWindows").Index(i), s, err.Error()))
		}
	}
	if c.ProbeInterval != 0 && (c.ProbeInterval < minProbe || c.ProbeInterval > maxProbe) {
		errs = append(errs, field.Invalid(field.NewPath("probeInterval"), c.ProbeInterval.String(), "must be 0 or from 1s to 24h"))
	}
	for i, s := range c.GuardedRanges {
		if _, err := dialguard.ParseRange(s); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("guardedRanges").Index(i), s, err.Error()))
		}
	}
	for i, s := range c.AllowedHosts {
		if err := hostglob.Check(s); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("allowedHosts").Index(i), s, err.Error()))
		}
	}
	return errs
}

// bandwidth is the limit in bytes per second, 0 for none.
func (c *config) bandwidth() (int64, error) {
	if c.BandwidthLimit == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(c.BandwidthLimit)
	if err != nil {
		return 0, errors.New("must be bytes per second such as 512Ki or 2Mi")
	}
	n := q.Value()
	if n < fetch.MinBandwidth {
		return 0, fmt.Errorf("is %d bytes per second, must be at least 16Ki: with less, registries take the connection for dead", n)
	}
	return n, nil
}

// windows are when pulls may run, nil for always.
func (c *config) windows() (edgeagent.Windows, error) {
	if len(c.PullWindows) == 0 {
		return nil, nil
	}
	return window.Parse(c.PullWindows, built())
}

// linkSettings are those in use that not every driver can honour.
func (c *config) linkSettings() report.LinkSettings {
	return report.LinkSettings{
		BandwidthLimit: c.BandwidthLimit != "", GuardedRanges: len(c.GuardedRanges) > 0, PullWindows: len(c.PullWindows) > 0,
	}
}

// limiter is one for all pulls, nil without a limit.
func (c *config) limiter() fetch.Limiter {
	n, err := c.bandwidth()
	if err != nil || n == 0 {
		return nil
	}
	return fetch.NewLimiter(n)
}

// guard opens the connections to registries, and to whomever they name.
func (c *config) guard() *dialguard.Guard {
	o := dialguard.Options{Trusted: append(dialguard.EnvironmentProxies(), c.AllowedHosts...)}
	for _, s := range c.GuardedRanges {
		if r, err := dialguard.ParseRange(s); err == nil { // what was validated is one
			o.Ranges = append(o.Ranges, r)
		}
	}
	if n, err := c.bandwidth(); err == nil && n > 0 {
		o.ReadBuffer = int(min(max(n*bufferedSeconds, minBuffer), maxBuffer))
	}
	return dialguard.New(o)
}

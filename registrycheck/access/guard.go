package access

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/internal/dialguard"
	"edgecache.dev/internal/hostglob"
)

// maxGuarded bounds GuardedRanges and AllowedHosts.
const maxGuarded = 256

func (s Settings) validateGuard() field.ErrorList {
	var errs field.ErrorList
	ranges, hosts := field.NewPath("guardedRanges"), field.NewPath("allowedHosts")
	if n := len(s.GuardedRanges); n > maxGuarded {
		errs = append(errs, field.TooMany(ranges, n, maxGuarded))
	}
	for i, r := range s.GuardedRanges {
		if _, err := dialguard.ParseRange(r); err != nil {
			errs = append(errs, field.Invalid(ranges.Index(i), r, err.Error()))
		}
	}
	if n := len(s.AllowedHosts); n > maxGuarded {
		errs = append(errs, field.TooMany(hosts, n, maxGuarded))
	}
	for i, host := range s.AllowedHosts {
		if err := hostglob.Check(host); err != nil {
			errs = append(errs, field.Invalid(hosts.Index(i), withoutUser(host), err.Error()))
		}
	}
	return errs
}

// guard opens the connections to hosts that registries name.
func (s Settings) guard() *dialguard.Guard {
	o := dialguard.Options{Trusted: s.configured(), Timeout: dialTimeout}
	for _, r := range s.GuardedRanges {
		if p, err := dialguard.ParseRange(r); err == nil { // what was validated is one
			o.Ranges = append(o.Ranges, p)
		}
	}
	return dialguard.New(o)
}

// configured gives the hosts that the user named, with their ports: those of entries and
// their mirrors, proxies, and what AllowedHosts lists. A pattern in an entry's hosts says how
// such hosts are reached, not that each is meant: AllowedHosts may hold it.
func (s Settings) configured() []string {
	all := append(dialguard.EnvironmentProxies(), s.AllowedHosts...)
	for _, r := range s.Registries {
		for _, host := range r.Hosts {
			if !strings.ContainsAny(host, "*?[") || strings.HasPrefix(host, "[") {
				all = append(all, withPort(host, r.PlainHTTP))
			}
		}
		for _, m := range r.Mirrors {
			if parsed, err := parseMirror(m); err == nil {
				all = append(all, withPort(parsed.host, parsed.plainHTTP))
			}
		}
		if address := dialguard.ProxyAddress(string(r.Proxy)); address != "" && r.Proxy != ProxyDirect {
			all = append(all, address)
		}
	}
	return all
}

// withPort adds the port that is implied to a host without one.
func withPort(host string, plainHTTP bool) string {
	u := url.URL{Host: host}
	if u.Port() != "" {
		return host
	}
	port := "443"
	if plainHTTP {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// checkRedirect ends loops, and refuses a redirect from elsewhere to an address that is
// written out and local: a proxy would connect to it where the guard does not see it.
func (n *Network) checkRedirect(req *http.Request, via []*http.Request) error {
	host := req.URL.Host
	if len(via) >= maxRedirects {
		return &RedirectError{Host: host, Reason: "too many redirects"}
	}
	if loopback(via[0].URL.Host) || n.guard.Trusts(withPort(host, req.URL.Scheme == "http")) {
		return nil
	}
	addr, _ := netip.ParseAddr(req.URL.Hostname())
	addr = addr.WithZone("").Unmap()
	if loopback(host) || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast() {
		return &RedirectError{Host: host, Reason: "address is local to this machine"}
	}
	return nil
}

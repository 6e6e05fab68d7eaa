package access

import (
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"edgecache.dev/api/imageref"
	"edgecache.dev/internal/hostglob"
)

// Docker Hub is named docker.io in references and served by another host: the one that
// container runtimes contact, so that a firewall opened for them is open for us.
const (
	hubName = "docker.io"
	hubHost = "registry-1.docker.io"
)

// Endpoint is one place where an image may be found. Endpoints are comparable.
type Endpoint struct {
	// Host is the host[:port] that is contacted.
	Host string
	// Repository is the path of the image on that host.
	Repository string
	// Mirrors is the registry that Host stands in for, "" for the registry itself.
	Mirrors string

	// name is the repository as written in a reference.
	name string
	// entry is the index of the registry's settings, len(Registries) without any.
	entry     int
	plainHTTP bool
	// What a Location says besides; zero for endpoints that are by Settings.
	root      string
	eitherWay bool
	wire      *Wire
	blocked   string
	silent    bool // a mirror that is not told for which registry it stands
}

// Name gives the repository as written in a reference. Credentials are looked up by it,
// so a mirror has to have its own.
func (e Endpoint) Name() string { return e.name }

// TriesPlain says whether plain HTTP is tried too when TLS fails: with this machine, and
// where a Location says so.
func (e Endpoint) TriesPlain() bool { return loopback(e.Host) || e.eitherWay }

// URL is where an object is asked for, without the query that mirrors get.
func (e Endpoint) URL(what Object) string {
	scheme := "https"
	if e.plainHTTP {
		scheme = "http"
	}
	return e.url(scheme, what).String()
}

func (e Endpoint) url(scheme string, what Object) *url.URL {
	return &url.URL{Scheme: scheme, Host: e.Host, Path: "/v2/" + e.Repository + "/" + string(what.Kind) + "/" + what.ID}
}

// Endpoints gives the places where the image may be found, in the order in which to try
// them: the registry's mirrors, then the registry itself.
func (n *Network) Endpoints(ref imageref.Reference) []Endpoint {
	if n.find != nil {
		if found := n.find(ref); len(found) > 0 {
			return n.located(ref, found)
		}
	}
	registry, repository := ref.Registry(), ref.Repository()
	entry := n.entryOf(registry)
	var out []Endpoint
	for _, m := range n.mirrors[entry] {
		mirrored := path.Join(m.prefix, repository)
		out = append(out, Endpoint{
			Host:       m.host,
			Repository: mirrored,
			Mirrors:    registry,
			name:       m.host + "/" + mirrored,
			entry:      n.entryOf(m.host),
			plainHTTP:  m.plainHTTP,
		})
	}
	host := registry
	if host == hubName {
		host = hubHost
	}
	return append(out, Endpoint{
		Host:       host,
		Repository: repository,
		name:       ref.Name(),
		entry:      entry,
		plainHTTP:  n.plainHTTP(entry),
	})
}

// entryOf finds the first settings entry for a host; their number means none.
func (n *Network) entryOf(host string) int {
	host = strings.ToLower(host)
	i := slices.IndexFunc(n.settings.Registries, func(r Registry) bool {
		return slices.ContainsFunc(r.Hosts, func(pattern string) bool {
			return hostglob.Match(strings.ToLower(pattern), host)
		})
	})
	if i < 0 {
		return len(n.settings.Registries)
	}
	return i
}

func (n *Network) plainHTTP(entry int) bool {
	return entry < len(n.settings.Registries) && n.settings.Registries[entry].PlainHTTP
}

// loopback says whether a host[:port] is this machine by its very name.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

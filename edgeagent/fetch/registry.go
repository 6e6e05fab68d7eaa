package fetch

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"

	"edgecache.dev/api/imageref"
)

// dialTimeout bounds making a connection, as in containerd.
const dialTimeout = 30 * time.Second

// RegistryOptions configure a Registry. The zero value reads public registries.
type RegistryOptions struct {
	// HostsDirs are directories like /etc/containerd/certs.d, with hosts.toml files that
	// give mirrors, CAs, client certificates, headers and plain HTTP per host. The first
	// directory that knows a host (or has _default) decides. Default: none.
	HostsDirs []string
	// Credentials gives the logins for reading the repository of name from host, which is
	// an API host ("registry-1.docker.io" for docker.io) or a mirror. They are tried in
	// turn, each when the one before was refused; none is anonymous. It is asked when a
	// host first wants to know who reads, and again when what it gave is not taken any
	// more. Its error counts where it gives no login, and must not contain what it found.
	// Default: anonymous.
	Credentials func(name imageref.Reference, host string) ([]Login, error)
	// DialContext makes every connection: to registries, mirrors, token servers,
	// redirect targets and proxies, within 30 s. What the user configured, the registry
	// and its mirrors, is trusted in the context as dialguard.Trust has it. Default:
	// net.Dialer with a timeout of 30 s, or the dial_timeout of hosts.toml.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Witness hears how the connections fare. Default: nobody.
	Witness Witness
	// Version is the agent's version for the User-Agent header. Default "unknown".
	Version string
}

// Registry reads from registries with the node's own configuration. It is a Source.
type Registry struct {
	options   RegistryOptions
	userAgent string
}

var _ Source = (*Registry)(nil)

// NewRegistry gives a source over the registries that images name.
func NewRegistry(o RegistryOptions) *Registry {
	version := o.Version
	if version == "" {
		version = "unknown"
	}
	if o.Witness == nil {
		o.Witness = nobody{}
	}
	return &Registry{options: o, userAgent: "edgecache-agent/" + version}
}

// Repository reads the configuration of the registry of name. It fails when that cannot
// be read, for instance because a CA file is missing.
func (r *Registry) Repository(ctx context.Context, name imageref.Reference) (Repository, error) {
	repo := &repository{registry: r, name: name, rejected: map[string]bool{}, logins: map[string]*logins{}}
	if err := repo.configure(ctx); err != nil {
		return nil, err
	}
	return repo, nil
}

// hosts reads the configuration anew: the result has its own connections and tokens.
func (r *Registry) hosts(ctx context.Context, name imageref.Reference, login func(host string) (Login, error)) ([]docker.RegistryHost, error) {
	return config.ConfigureHosts(ctx, config.HostOptions{
		HostDir:      r.hostDir,
		UpdateClient: r.updateClient,
		AuthorizerOpts: []docker.AuthorizerOpt{
			docker.WithAuthHeader(http.Header{"User-Agent": {r.userAgent}}),
		},
		Credentials: func(host string) (string, string, error) {
			l, err := login(host)
			return l.User, l.Secret, err
		},
	})(name.Registry())
}

// hostDir finds the directory with the configuration of a host.
func (r *Registry) hostDir(host string) (string, error) {
	for _, root := range r.options.HostsDirs {
		dir, err := config.HostDirFromRoot(root)(host)
		if dir != "" || err != nil && !errdefs.IsNotFound(err) {
			return dir, err
		}
	}
	return "", errdefs.ErrNotFound
}

// updateClient is called for each HTTP client that ConfigureHosts makes.
func (r *Registry) updateClient(c *http.Client) error {
	t, ok := c.Transport.(*http.Transport)
	if dial := r.options.DialContext; ok && dial != nil {
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			return dial(ctx, network, address)
		}
	}
	c.Transport = capped{c.Transport}
	return nil
}

// repository is one repository behind its hosts, mirrors first, the registry last.
type repository struct {
	registry *Registry
	name     imageref.Reference

	mu       sync.Mutex // guards what follows
	current  []docker.RegistryHost
	rejected map[string]bool // hosts that sent wrong bytes, or none
	logins   map[string]*logins
}

// configure (re)reads the configuration. Doing it again drops tokens: an authorizer of
// containerd remembers a failed token request for ever.
func (r *repository) configure(ctx context.Context) error {
	hosts, err := r.registry.hosts(ctx, r.name, func(host string) (Login, error) { return r.loginsFor(host).current() })
	if err != nil {
		return refuse("reading the host configuration of registry %s: %v", r.name.Registry(), err)
	}
	hosts = slices.DeleteFunc(hosts, func(h docker.RegistryHost) bool {
		return !h.Capabilities.Has(docker.HostCapabilityPull)
	})
	if len(hosts) == 0 {
		return refuse("reading the host configuration of registry %s: no host may be pulled from", r.name.Registry())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.current {
		h.Client.CloseIdleConnections()
	}
	for _, l := range r.logins {
		l.forget()
	}
	r.current = hosts
	return nil
}

// loginsFor gives the logins for one host.
func (r *repository) loginsFor(host string) *logins {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.logins[host]
	if l == nil {
		l = &logins{find: func() ([]Login, error) {
			if r.registry.options.Credentials == nil {
				return nil, nil
			}
			return r.registry.options.Credentials(r.name, host)
		}}
		r.logins[host] = l
	}
	return l
}

// hosts gives the hosts to ask, in order.
func (r *repository) hosts() []docker.RegistryHost {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.current), func(h docker.RegistryHost) bool { return r.rejected[h.Host] })
}

// addresses are those of the hosts that the user configured: the registry that the image
// names, and its mirrors.
func (r *repository) addresses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, h := range r.current {
		u := url.URL{Scheme: h.Scheme, Host: h.Host}
		port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[h.Scheme])
		all = append(all, net.JoinHostPort(u.Hostname(), port))
	}
	return all
}

// reject leaves out a host from now on, unless it is the only one left.
func (r *repository) reject(host string) bool {
	others := slices.ContainsFunc(r.hosts(), func(h docker.RegistryHost) bool { return h.Host != host })
	if others {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.rejected[host] = true
	}
	return others
}

// passOver leaves out a mirror from now on that answers and then sends nothing: it would be
// asked first each time, and the registry behind it never.
func (r *repository) passOver(host string) {
	if hosts := r.hosts(); hosts[len(hosts)-1].Host != host {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.rejected[host] = true
	}
}

// Close lets go of idle connections.
func (r *repository) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.current {
		h.Client.CloseIdleConnections()
	}
	return nil
}

// isMirror says whether a host serves the registry under another name; it is told then
// which registry is meant, by the query ns=, as containerd does.
func (r *repository) isMirror(h docker.RegistryHost) bool {
	registry := r.name.Registry()
	return h.Host != registry && (registry != "docker.io" || h.Host != "registry-1.docker.io")
}

// scope is the right that tokens are asked for.
func (r *repository) scope() string { return fmt.Sprintf("repository:%s:pull", r.name.Repository()) }

package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/distribution/reference"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/internal/hostglob"
)

// Defaults and limits of Settings.
const (
	// DefaultTimeout bounds one look-up over all mirrors, credentials and repetitions:
	// long enough for an index of 32 platforms over a slow link.
	DefaultTimeout = 30 * time.Second
	// DefaultMaxRequestsPerHost keeps a refresh of many images from looking like an
	// attack to the registry.
	DefaultMaxRequestsPerHost = 8

	minTimeout, maxTimeout = time.Second, 10 * time.Minute
	maxRequestsPerHost     = 64
	maxRegistries          = 256
	maxHosts               = 64
	maxMirrors             = 8
)

// ProxyDirect as a Registry's proxy means none, whatever the environment says.
const ProxyDirect = "direct"

// Settings say how registries are reached. The zero value is Default.
type Settings struct {
	// Registries are looked up by host; the first entry with a matching host counts.
	// A host without entry is reached over HTTPS, with the system's CAs and the
	// proxy of the environment. At most 256.
	Registries []Registry `json:"registries,omitempty" mapstructure:"registries"`
	// Timeout bounds one look-up, with its mirrors, credentials and repetitions.
	// 0 means 30s; 1s to 10m.
	Timeout time.Duration `json:"timeout,omitempty" mapstructure:"timeout"`
	// MaxRequestsPerHost is how many requests to one host run at a time. 0 means 8;
	// 1 to 64.
	MaxRequestsPerHost int `json:"maxRequestsPerHost,omitempty" mapstructure:"maxRequestsPerHost"`
	// GuardedRanges are addresses, such as those of a cluster's pods and Services, to which
	// no registry may lead by naming a token server or a redirect. This machine, its link
	// and the metadata services of clouds always are. At most 256.
	GuardedRanges []string `json:"guardedRanges,omitempty" mapstructure:"guardedRanges"`
	// AllowedHosts are token servers and blob stores that may be at guarded addresses:
	// host, host:port or *.corp.example. A registry that an image names, the hosts of
	// Registries that are no patterns, their mirrors and proxies need not be listed. At
	// most 256.
	AllowedHosts []string `json:"allowedHosts,omitempty" mapstructure:"allowedHosts"`
}

// Registry says how some registries are reached.
type Registry struct {
	// Hosts are host[:port] as written in image references, with globs per label
	// ("*.corp.example:5000"); docker.io stands for Docker Hub. 1 to 64.
	Hosts []string `json:"hosts" mapstructure:"hosts"`
	// CAFile is a PEM file of CAs that are trusted besides the system's. It is read
	// once, at start.
	CAFile string `json:"caFile,omitempty" mapstructure:"caFile"`
	// PlainHTTP says that these registries speak HTTP without TLS.
	PlainHTTP bool `json:"plainHTTP,omitempty" mapstructure:"plainHTTP"`
	// Mirrors are tried before the registry itself, in order: "https://host[:port]",
	// with a path that is put in front of the repository ("https://harbor.example/hub"
	// turns library/nginx into hub/library/nginx). http:// means plain HTTP. CA and
	// proxy of a mirror are those of the entry that has the mirror's own host. At most 8.
	Mirrors []string `json:"mirrors,omitempty" mapstructure:"mirrors"`
	// Proxy is an http://, https:// or socks5:// URL, or "direct". Empty means what
	// HTTPS_PROXY, HTTP_PROXY and NO_PROXY say.
	Proxy ProxyURL `json:"proxy,omitempty" mapstructure:"proxy"`
}

// ProxyURL is the URL of a proxy. It may hold a password, so it prints without one,
// whatever the verb or encoder. string(p) is the whole URL.
type ProxyURL string

// Default gives the settings without any registry.
func Default() Settings {
	return Settings{Timeout: DefaultTimeout, MaxRequestsPerHost: DefaultMaxRequestsPerHost}
}

// withDefaults replaces zeros by what they mean.
func (s Settings) withDefaults() Settings {
	if s.Timeout == 0 {
		s.Timeout = DefaultTimeout
	}
	if s.MaxRequestsPerHost == 0 {
		s.MaxRequestsPerHost = DefaultMaxRequestsPerHost
	}
	return s
}

// Validate says which fields are wrong and what to write instead. It reads no file.
func (s Settings) Validate() field.ErrorList {
	var errs field.ErrorList
	s = s.withDefaults()
	if s.Timeout < minTimeout || s.Timeout > maxTimeout {
		errs = append(errs, field.Invalid(field.NewPath("timeout"), s.Timeout.String(),
			fmt.Sprintf("must be from %s to %s", minTimeout, maxTimeout)))
	}
	if s.MaxRequestsPerHost < 1 || s.MaxRequestsPerHost > maxRequestsPerHost {
		errs = append(errs, field.Invalid(field.NewPath("maxRequestsPerHost"), s.MaxRequestsPerHost,
			fmt.Sprintf("must be from 1 to %d", maxRequestsPerHost)))
	}
	list := field.NewPath("registries")
	if n := len(s.Registries); n > maxRegistries {
		errs = append(errs, field.TooMany(list, n, maxRegistries))
	}
	seen := map[string]bool{}
	for i, r := range s.Registries {
		errs = append(errs, r.validate(list.Index(i), seen)...)
	}
	return append(errs, s.validateGuard()...)
}

// validate checks one entry. seen holds the hosts of the entries before it, because a
// host's second entry would never be used.
func (r Registry) validate(at *field.Path, seen map[string]bool) field.ErrorList {
	var errs field.ErrorList
	hosts := at.Child("hosts")
	if len(r.Hosts) == 0 {
		errs = append(errs, field.Required(hosts, "name at least one host, such as registry.example:5000 or *.corp.example"))
	}
	if len(r.Hosts) > maxHosts {
		errs = append(errs, field.TooMany(hosts, len(r.Hosts), maxHosts))
	}
	for i, host := range r.Hosts {
		if err := hostglob.Check(host); err != nil {
			errs = append(errs, field.Invalid(hosts.Index(i), withoutUser(host), err.Error()))
		}
		if key := strings.ToLower(host); seen[key] {
			errs = append(errs, field.Duplicate(hosts.Index(i), host))
		} else {
			seen[key] = true
		}
	}
	if r.CAFile != "" && r.PlainHTTP {
		errs = append(errs, field.Invalid(at.Child("caFile"), r.CAFile, "has no effect with plainHTTP: leave out one of the two"))
	}
	errs = append(errs, validateMirrors(r.Mirrors, at.Child("mirrors"))...)
	if err := r.Proxy.check(); err != nil {
		errs = append(errs, field.Invalid(at.Child("proxy"), r.Proxy.String(), err.Error()))
	}
	return errs
}

func validateMirrors(mirrors []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(mirrors) > maxMirrors {
		errs = append(errs, field.TooMany(at, len(mirrors), maxMirrors))
	}
	seen := map[mirror]bool{}
	for i, s := range mirrors {
		m, err := parseMirror(s)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at.Index(i), withoutUser(s), err.Error()))
		case seen[m]:
			errs = append(errs, field.Duplicate(at.Index(i), s))
		}
		seen[m] = true
	}
	return errs
}

// mirror is a parsed entry of Registry.Mirrors.
type mirror struct {
	host      string
	prefix    string // of the repository, without slashes at its ends
	plainHTTP bool
}

func parseMirror(s string) (mirror, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return mirror{}, errors.New("must be a URL: write https://mirror.example or https://mirror.example/prefix")
	case u.User != nil:
		return mirror{}, errors.New("must not hold a user: put the mirror's host into a pull Secret")
	case u.RawQuery != "" || u.Fragment != "":
		return mirror{}, errors.New("must end with the path: leave out ? and #")
	}
	if err := hostglob.Check(u.Host); err != nil {
		return mirror{}, err
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix == "v2" || strings.HasPrefix(prefix, "v2/") {
		return mirror{}, errors.New("must not begin its path with /v2: write the prefix of the repository alone")
	}
	if prefix != "" {
		if _, err := reference.WithName(path.Join("host.example", prefix)); err != nil {
			return mirror{}, errors.New("path must be a valid repository name: lowercase letters, digits, and . _ - between them")
		}
	}
	return mirror{host: u.Host, prefix: prefix, plainHTTP: u.Scheme == "http"}, nil
}

func (p ProxyURL) check() error {
	if p == "" || p == ProxyDirect {
		return nil
	}
	u, err := url.Parse(string(p))
	if err != nil || u.Host == "" {
		return fmt.Errorf("must be a URL such as http://proxy.example:3128, or %q", ProxyDirect)
	}
	switch u.Scheme {
	case "http", "https", "socks5":
	default:
		return errors.New("scheme must be http, https or socks5")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("must end after the port: write http://proxy.example:3128")
	}
	return nil
}

// withoutUser cuts user-info out of anything that looks like a URL, well-formed or not.
func withoutUser(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && strings.LastIndexByte(rest, '@') < i {
		authority, tail = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = "…" + authority[i:]
	}
	if ok {
		scheme += "://"
	}
	return scheme + authority + tail
}

// String gives the URL with "…" for its user and password.
func (p ProxyURL) String() string { return withoutUser(string(p)) }

// GoString is String: %#v must not show the password.
func (p ProxyURL) GoString() string { return p.String() }

// Format prints String for every verb.
func (p ProxyURL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// MarshalJSON gives String as a JSON string.
func (p ProxyURL) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }

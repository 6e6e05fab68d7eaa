package credentialprovider

import (
	"context"
	"errors"
	"strings"

	config "k8s.io/kubelet/config/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/internal/hostglob"
)

// dockerHub is the host that serves docker.io.
const dockerHub = "registry-1.docker.io"

// Providers are the plugins of a node. It may be used by several goroutines at once.
type Providers struct {
	all     []*provider
	skipped []string
}

// Skipped names the plugins that are never asked, because they must have the token of a
// pod's service account.
func (p *Providers) Skipped() []string { return p.skipped }

func (p *Providers) add(c *config.CredentialProviderConfig, programs string) {
	for i := range c.Providers {
		one := c.Providers[i]
		if t := one.TokenAttributes; t != nil && (t.RequireServiceAccount == nil || *t.RequireServiceAccount) {
			p.skipped = append(p.skipped, one.Name)
			continue
		}
		p.all = append(p.all, newProvider(one, programs))
	}
}

// For gives the logins that plugins have for an image at a host, in the order of the
// configuration. A mirror gets what they have for the mirror. An error comes beside what
// the others gave.
func (p *Providers) For(ctx context.Context, name imageref.Reference, host string) ([]fetch.Login, error) {
	if host == dockerHub {
		host = "docker.io"
	}
	image := host + "/" + name.Repository()
	var logins []fetch.Login
	var errs []error
	for _, one := range p.all {
		found, err := one.logins(ctx, image)
		logins, errs = append(logins, found...), append(errs, err)
	}
	return logins, errors.Join(errs...)
}

// matches says whether an image, "host/repository", is one that a pattern stands for:
// hosts by label, paths by prefix, as in the kubelet.
func matches(pattern, image string) bool {
	wantHost, wantPath, _ := strings.Cut(pattern, "/")
	host, path, _ := strings.Cut(image, "/")
	// The kubelet knows Docker Hub by its old name too.
	hub := host == "docker.io" && wantHost == "index.docker.io"
	return (hub || hostglob.Match(wantHost, host)) && strings.HasPrefix(path, wantPath)
}

// withoutScheme gives a key of an answer as a pattern. Docker writes keys as URLs, with the
// version of the API.
func withoutScheme(key string) string {
	for _, scheme := range []string{"https://", "http://"} {
		key = strings.TrimPrefix(key, scheme)
	}
	for _, version := range []string{"/v1/", "/v2/", "/v1", "/v2"} {
		if bare, ok := strings.CutSuffix(key, version); ok {
			return bare
		}
	}
	return key
}

func hostOf(image string) string {
	host, _, _ := strings.Cut(image, "/")
	return host
}

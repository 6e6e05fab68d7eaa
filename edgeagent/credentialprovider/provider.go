package credentialprovider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	config "k8s.io/kubelet/config/v1"
	api "k8s.io/kubelet/pkg/apis/credentialprovider/v1"

	"edgecache.dev/edgeagent/fetch"
)

const (
	// timeout bounds one run of a plugin, as in the kubelet.
	timeout = time.Minute
	// grace is how long a plugin's children may hold its output open after its end.
	grace = 5 * time.Second
)

// provider is one plugin.
type provider struct {
	config  config.CredentialProvider
	program string

	mu    sync.Mutex // one run at a time; guards said
	said  map[string]answer
	clock func() time.Time
}

// answer is what a plugin said, good for all images of its key.
type answer struct {
	auth  map[string]api.AuthConfig
	until time.Time
}

// logins gives what a plugin has for an image, "host/repository", the most specific first.
func (p *provider) logins(ctx context.Context, image string) ([]fetch.Login, error) {
	if !slices.ContainsFunc(p.config.MatchImages, func(pattern string) bool { return matches(pattern, image) }) {
		return nil, nil
	}
	auth, err := p.ask(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("asking credential provider %s for %s: %w", p.config.Name, image, err)
	}
	var keys []string
	for key := range auth {
		if matches(withoutScheme(key), image) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(withoutScheme(b), withoutScheme(a)) })
	var logins []fetch.Login
	for _, key := range keys {
		logins = append(logins, fetch.Login{User: auth[key].Username, Secret: auth[key].Password})
	}
	return logins, nil
}

// ask gives what the plugin said last, if that is still good for the image, else what it
// says now.
func (p *provider) ask(ctx context.Context, image string) (map[string]api.AuthConfig, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	for key, a := range p.said {
		if !now.Before(a.until) {
			delete(p.said, key)
		}
	}
	for _, key := range []string{image, hostOf(image), ""} {
		if a, ok := p.said[key]; ok {
			return a.auth, nil
		}
	}
	response, err := p.run(ctx, image)
	if err != nil {
		return nil, err
	}
	key, ok := map[api.PluginCacheKeyType]string{
		api.ImagePluginCacheKeyType: image, api.RegistryPluginCacheKeyType: hostOf(image), api.GlobalPluginCacheKeyType: "",
	}[response.CacheKeyType]
	if !ok {
		return nil, fmt.Errorf("its answer has cacheKeyType %q: want Image, Registry or Global", response.CacheKeyType)
	}
	keep := p.config.DefaultCacheDuration.Duration
	if response.CacheDuration != nil {
		keep = response.CacheDuration.Duration
	}
	if keep > 0 {
		p.said[key] = answer{auth: response.Auth, until: now.Add(keep)}
	}
	return response.Auth, nil
}

// run runs the plugin once. Nothing of what it writes is in an error.
func (p *provider) run(ctx context.Context, image string) (*api.CredentialProviderResponse, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it gave no answer in %s", timeout))
	defer cancel()
	request, err := json.Marshal(api.CredentialProviderRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: p.config.APIVersion, Kind: "CredentialProviderRequest"}, Image: image,
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, p.program, p.config.Args...)
	cmd.Stdin, cmd.WaitDelay, cmd.Env = bytes.NewReader(request), grace, os.Environ()
	for _, e := range p.config.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	out, err := cmd.Output()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, fmt.Errorf("it failed (%w); run it by hand to see why", plain(err))
	}
	response := &api.CredentialProviderResponse{}
	if err := json.Unmarshal(out, response); err != nil {
		return nil, errors.New("its answer is no JSON of a CredentialProviderResponse")
	}
	if response.APIVersion != p.config.APIVersion || response.Kind != "CredentialProviderResponse" {
		return nil, fmt.Errorf("its answer is of apiVersion %q and kind %q: want %s and CredentialProviderResponse", response.APIVersion, response.Kind, p.config.APIVersion)
	}
	return response, nil
}

// plain drops what the program wrote to its standard error.
func plain(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return errors.New(exit.String())
	}
	return err
}

func newProvider(c config.CredentialProvider, programs string) *provider {
	return &provider{config: c, program: filepath.Join(programs, c.Name), said: map[string]answer{}, clock: time.Now}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/credentialprovider"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/keyring"
	"edgecache.dev/registrycheck/keychain"
)

// dockerHub is the host that serves docker.io.
const dockerHub = "registry-1.docker.io"

// logins gives the logins for an image at a host, in the order to try them.
type logins = func(name imageref.Reference, host string) ([]fetch.Login, error)

// credentials gives those that the wish has for an image, and then the node's own: out of a
// docker config file, and from the kubelet's plugins, as the kubelet tries a pod's before its
// own. The file is read anew for each pull, so that a rotated one needs no restart. No file
// is no credentials; plugins may be nil.
func credentials(ring *keyring.Ring, file string, plugins *credentialprovider.Configured) logins {
	return func(name imageref.Reference, host string) ([]fetch.Login, error) {
		own, err := fromFile(file, name, host)
		all := append(ring.For(name, host), own...)
		if plugins == nil {
			return all, err
		}
		// Without the context of a pull, as what one pull learns serves the next.
		found, perr := plugins.For(context.Background(), name, host)
		return append(all, found...), errors.Join(err, perr)
	}
}

// credentialPlugins reads the configuration of the kubelet's plugins, nil where none is given.
// One that is not there, or wrong, is tried again: it is the node's, and may be mended.
func credentialPlugins(ctx context.Context, c *config) *credentialprovider.Configured {
	if c.ImageCredentialProviderConfig == "" {
		return nil
	}
	return credentialprovider.Configure(c.ImageCredentialProviderConfig, c.ImageCredentialProviderBinDir, func(plugins *credentialprovider.Providers) {
		if skipped := plugins.Skipped(); len(skipped) > 0 {
			klog.FromContext(ctx).Info("Credential providers that must have a pod's service account token are not asked: give these images a pull secret", "providers", skipped)
		}
	})
}

// keys are what credentials are sealed to, and whose trouble is that of the plugins, too.
type keys struct {
	*keyring.Ring

	plugins *credentialprovider.Configured // nil for none
}

// Trouble names credentials that there are not.
func (k keys) Trouble() error {
	if k.plugins == nil {
		return k.Ring.Trouble()
	}
	return errors.Join(k.Ring.Trouble(), k.plugins.Trouble())
}

// fromFile gives what a docker config file has for a host.
func fromFile(file string, name imageref.Reference, host string) ([]fetch.Login, error) {
	if file == "" {
		return nil, nil
	}
	chain, err := keychain.FromDockerConfigFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading pull credentials: %w", err)
	}
	// A mirror gets only what the file has for the mirror itself.
	found := chain.ForRepository(host + "/" + name.Repository())
	if host == dockerHub {
		found = chain.For(name)
	}
	var logins []fetch.Login
	for _, c := range found {
		auth, err := c.Authorization()
		if err != nil {
			return nil, fmt.Errorf("reading pull credentials for %s: %w", name.Name(), err)
		}
		logins = append(logins, login(auth))
	}
	return logins, nil
}

func login(auth *authn.AuthConfig) fetch.Login {
	switch {
	case auth.RegistryToken != "":
		return fetch.Login{Token: auth.RegistryToken}
	case auth.IdentityToken != "":
		return fetch.Login{Secret: auth.IdentityToken}
	}
	return fetch.Login{User: auth.Username, Secret: auth.Password}
}

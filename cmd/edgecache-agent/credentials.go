package main

import (
	"errors"
	"fmt"
	"os"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/keychain"
)

// dockerHub is the host that serves docker.io.
const dockerHub = "registry-1.docker.io"

// credentials reads pull credentials from a docker config file, as the kubelet does with
// its own: anew for each pull, so that a rotated file needs no restart. No file is no
// credentials.
func credentials(file string) func(imageref.Reference, string) (string, string, error) {
	return func(name imageref.Reference, host string) (user, secret string, err error) {
		if file == "" {
			return "", "", nil
		}
		chain, err := keychain.FromDockerConfigFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return "", "", nil
		}
		if err != nil {
			return "", "", fmt.Errorf("reading pull credentials: %w", err)
		}
		// A mirror gets only what the file has for the mirror itself.
		found := chain.ForRepository(host + "/" + name.Repository())
		if host == dockerHub {
			found = chain.For(name)
		}
		if len(found) == 0 {
			return "", "", nil
		}
		auth, err := found[0].Authorization()
		if err != nil {
			return "", "", fmt.Errorf("reading pull credentials for %s: %w", name.Name(), err)
		}
		if auth.IdentityToken != "" {
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}
}

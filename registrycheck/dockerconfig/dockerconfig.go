package dockerconfig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"

	"edgecache.dev/registrycheck/keychain"
)

// Limits of what helpers and files may do.
const (
	helperTimeout = 30 * time.Second
	maxConfig     = 10 << 20 // bytes
	maxAnswer     = 1 << 20  // bytes
)

// Locations gives the files that docker and podman read, those that are there, in the
// order in which their logins are tried: $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json or
// ~/.docker/config.json, $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json.
func Locations(env func(string) string) []string {
	var all []string
	add := func(dir string, rest ...string) {
		if dir != "" {
			all = append(all, filepath.Join(append([]string{dir}, rest...)...))
		}
	}
	add(env("REGISTRY_AUTH_FILE"))
	if dir := env("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(env("HOME"), ".docker", "config.json")
	}
	add(env("XDG_RUNTIME_DIR"), "containers", "auth.json")
	if dir := env("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(env("HOME"), ".config", "containers", "auth.json")
	}
	return slices.DeleteFunc(all, func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// helpers is what a configuration says of credential helpers.
type helpers struct {
	Store string            `json:"credsStore"`
	Each  map[string]string `json:"credHelpers"`
}

// Load reads a configuration and asks its helpers for the logins of the registries, hosts
// as in image references. The Keychain is worth using even when there is an error.
func Load(ctx context.Context, path string, registries []string) (keychain.Keychain, error) {
	b, err := read(path)
	if err != nil {
		return keychain.Keychain{}, fmt.Errorf("reading docker configuration %s: %w", path, err)
	}
	static, err := keychain.FromDockerConfig(bytes.NewReader(b))
	if err != nil {
		return keychain.Keychain{}, fmt.Errorf("%s: %w", path, err)
	}
	var h helpers
	if err := json.Unmarshal(b, &h); err != nil { // the library's text may repeat values
		return static, fmt.Errorf("%s: credsStore must be a text, credHelpers a map of texts", path)
	}
	var found []keychain.Credential
	var errs []error
	for _, registry := range registries {
		name := h.of(registry)
		if name == "" {
			continue
		}
		login, err := ask(ctx, name, serverOf(registry))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: credential helper docker-credential-%s for %s: %w", path, name, registry, err))
		case login != authn.AuthConfig{}:
			found = append(found, keychain.New(registry, login))
		}
	}
	return keychain.Union(keychain.Of(found...), static), errors.Join(errs...)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(b) > maxConfig {
		err = fmt.Errorf("longer than %d MiB", maxConfig>>20)
	}
	return b, err
}

// of gives the helper that serves a registry, "" for none.
func (h helpers) of(registry string) string {
	for _, key := range []string{registry, serverOf(registry)} {
		if name, ok := h.Each[key]; ok {
			return name
		}
	}
	return h.Store
}

// serverOf gives the key under which docker keeps the login of a registry.
func serverOf(registry string) string {
	if registry == "docker.io" {
		return "https://index.docker.io/v1/"
	}
	return registry
}

// helperName keeps a configuration from naming a program by its path.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// ask runs a helper. No login is the zero one.
func ask(ctx context.Context, helper, server string) (authn.AuthConfig, error) {
	if !helperName.MatchString(helper) {
		return authn.AuthConfig{}, errors.New("is no name of a helper: letters, digits and . _ - are allowed")
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	run := &process{cmd: exec.CommandContext(ctx, "docker-credential-"+helper)}
	got, err := client.Get(run.with, server)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return authn.AuthConfig{}, nil
	case run.err != nil:
		return authn.AuthConfig{}, fmt.Errorf("failed: %w", run.err)
	case err != nil: // the text may have what the helper printed
		return authn.AuthConfig{}, errors.New("gave no login that can be read")
	case got.Username == "<token>":
		return authn.AuthConfig{IdentityToken: got.Secret}, nil
	}
	return authn.AuthConfig{Username: got.Username, Password: got.Secret}, nil
}

// process is a helper that ends with its context.
type process struct {
	cmd *exec.Cmd
	err error // of running it
}

func (p *process) with(args ...string) client.Program {
	p.cmd.Args = append(p.cmd.Args, args...)
	return p
}

// Input is what the helper reads.
func (p *process) Input(in io.Reader) { p.cmd.Stdin = in }

// Output runs the helper.
func (p *process) Output() ([]byte, error) {
	out := &bounded{left: maxAnswer}
	p.cmd.Stdout, p.cmd.WaitDelay = out, time.Second
	err := p.cmd.Run()
	p.err = err
	return out.buffer.Bytes(), err
}

// bounded keeps the beginning of what is written.
type bounded struct {
	buffer bytes.Buffer
	left   int
}

// Write takes all, and keeps what there is room for.
func (b *bounded) Write(p []byte) (int, error) {
	keep := p[:min(len(p), b.left)]
	b.left -= len(keep)
	b.buffer.Write(keep)
	return len(p), nil
}

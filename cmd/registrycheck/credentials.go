package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/dockerconfig"
	"edgecache.dev/registrycheck/extract"
	"edgecache.dev/registrycheck/keychain"
)

// credentials finds what a pod pulls with, as the kubelet does: the Secrets that the pod
// names, without any those of its ServiceAccount, then the node's own, for which those of
// the command line stand.
type credentials struct {
	inputs *extract.Inputs
	// everyone is what --pull-secret and --docker-config give.
	everyone keychain.Keychain
	// made keeps keychains by who.
	made map[string]keychain.Keychain
	// missing are Secrets that pods name and nobody has.
	missing []string
}

// of gives the credentials of a finding, and who to tell them apart from others.
func (c *credentials) of(f extract.Finding) (keys keychain.Keychain, who string) {
	if f.Use == extract.Reference {
		return c.everyone, ""
	}
	var secrets []corev1.Secret
	for _, name := range c.names(f) {
		s, ok := c.secret(f.Source.Namespace, name)
		full := strings.TrimPrefix(f.Source.Namespace+"/"+name, "/")
		switch {
		case ok:
			secrets = append(secrets, s)
			who += "\x00" + full
		case !slices.Contains(c.missing, full):
			c.missing = append(c.missing, full)
		}
	}
	keys, ok := c.made[who]
	if !ok {
		own, _ := keychain.Parse(secrets...) // broken ones were reported
		keys = keychain.Union(own, c.everyone)
		if c.made == nil {
			c.made = map[string]keychain.Keychain{}
		}
		c.made[who] = keys
	}
	return keys, who
}

// names gives the names of the Secrets that count.
func (c *credentials) names(f extract.Finding) []string {
	if len(f.PullSecrets) > 0 || f.Use == extract.Cache {
		return f.PullSecrets
	}
	account := cmp.Or(f.ServiceAccount, "default")
	var all []string
	for _, a := range c.inputs.ServiceAccounts {
		if a.Name == account && sameNamespace(a.Namespace, f.Source.Namespace) {
			for _, s := range a.ImagePullSecrets {
				all = append(all, s.Name)
			}
		}
	}
	return all
}

func (c *credentials) secret(namespace, name string) (corev1.Secret, bool) {
	i := slices.IndexFunc(c.inputs.Secrets, func(s corev1.Secret) bool { return s.Name == name && sameNamespace(s.Namespace, namespace) })
	if i < 0 {
		return corev1.Secret{}, false
	}
	return c.inputs.Secrets[i], true
}

// sameNamespace takes manifests for those of one namespace where they do not say.
func sameNamespace(a, b string) bool { return a == b || a == "" || b == "" }

// broken says which of the Secrets cannot be read.
func (c *credentials) broken() error {
	_, err := keychain.Parse(c.inputs.Secrets...)
	return err
}

// everyone reads the credentials that count for all images. Errors of the files that the
// user named are errors; what is wrong with those that lie about is a warning.
func (r *run) everyone(ctx context.Context, registries []string) (keychain.Keychain, error) {
	var chains []keychain.Keychain
	for _, path := range r.options.pullSecrets {
		var in extract.Inputs
		in.Read(path, nil)
		if err := errors.Join(in.Errors...); err != nil {
			return keychain.Keychain{}, fmt.Errorf("--pull-secret: %w", err)
		}
		if len(in.Secrets) == 0 {
			return keychain.Keychain{}, fmt.Errorf("--pull-secret %s: has no Secret of type %s", path, corev1.SecretTypeDockerConfigJson)
		}
		keys, err := keychain.Parse(in.Secrets...)
		if err != nil {
			return keychain.Keychain{}, fmt.Errorf("--pull-secret %s: %w", path, err)
		}
		chains = append(chains, keys)
	}
	paths, named := r.options.dockerConfigs, true
	switch {
	case slices.Contains(paths, none):
		paths = nil
	case len(paths) == 0:
		paths, named = dockerconfig.Locations(r.env), false
	}
	for _, path := range paths {
		keys, err := dockerconfig.Load(ctx, path, registries)
		if err != nil && named {
			return keychain.Keychain{}, fmt.Errorf("--docker-config: %w", err)
		}
		if err != nil {
			fmt.Fprintln(r.err, "Warning:", err)
		}
		chains = append(chains, keys)
	}
	return keychain.Union(chains...), nil
}

// registriesOf gives the registries that findings name, each once.
func registriesOf(findings []extract.Finding) []string {
	var all []string
	for _, f := range findings {
		if ref, err := imageref.Parse(f.Image); err == nil {
			all = append(all, ref.Registry())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

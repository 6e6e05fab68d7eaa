package keychain

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
)

// maxConfigBytes is the longest docker configuration that is read. Secrets end at 1 MiB
// by themselves; the kubelet reads at most 10 MiB of a file.
const maxConfigBytes = 10 << 20

// entries is the map from registry to login in both formats.
type entries map[string]entry

// entry is one login as docker writes it. It exists only while parsing.
type entry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// Parse reads pull Secrets. Every Secret that cannot be used is left out and named in
// the error with what is wrong with it; the Keychain holds all the others, so it is
// worth using even when there is an error.
func Parse(secrets ...corev1.Secret) (Keychain, error) {
	var all []Credential
	var errs []error
	for i := range secrets {
		s := &secrets[i]
		creds, err := parseSecret(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading pull Secret %s/%s: %w", s.Namespace, s.Name, err))
			continue
		}
		all = append(all, creds...)
	}
	return Of(all...), errors.Join(errs...)
}

// FromDockerConfig reads docker's config.json. Credential helpers named in it are not
// run.
func FromDockerConfig(r io.Reader) (Keychain, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxConfigBytes+1))
	if err != nil {
		return Keychain{}, fmt.Errorf("reading docker configuration: %w", err)
	}
	if len(b) > maxConfigBytes {
		return Keychain{}, fmt.Errorf("reading docker configuration: longer than %d bytes", maxConfigBytes)
	}
	creds, err := parseConfigJSON(b, Source{})
	if err != nil {
		return Keychain{}, fmt.Errorf("reading docker configuration: %w", err)
	}
	return Of(creds...), nil
}

// FromDockerConfigFile is FromDockerConfig for a file.
func FromDockerConfigFile(path string) (Keychain, error) {
	f, err := os.Open(path)
	if err != nil {
		return Keychain{}, fmt.Errorf("opening docker configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	k, err := FromDockerConfig(f)
	if err != nil {
		return Keychain{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func parseSecret(s *corev1.Secret) ([]Credential, error) {
	source := Source{Namespace: s.Namespace, Name: s.Name, ResourceVersion: s.ResourceVersion}
	key, parse := corev1.DockerConfigJsonKey, parseConfigJSON
	switch s.Type {
	case corev1.SecretTypeDockerConfigJson:
	case corev1.SecretTypeDockercfg:
		key, parse = corev1.DockerConfigKey, parseLegacy
	default:
		return nil, fmt.Errorf("type is %q: must be %s or %s",
			s.Type, corev1.SecretTypeDockerConfigJson, corev1.SecretTypeDockercfg)
	}
	data := s.Data[key]
	if len(data) == 0 {
		return nil, fmt.Errorf("data has no %q", key)
	}
	creds, err := parse(data, source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return creds, nil
}

func parseConfigJSON(b []byte, source Source) ([]Credential, error) {
	var config struct {
		Auths entries `json:"auths"`
	}
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, explain(err)
	}
	return config.Auths.credentials(source)
}

func parseLegacy(b []byte, source Source) ([]Credential, error) {
	var logins entries
	if err := json.Unmarshal(b, &logins); err != nil {
		return nil, explain(err)
	}
	return logins.credentials(source)
}

// credentials turns the map into a sorted list: two keys may mean the same registry,
// and the order of a Go map would then decide which login is tried first.
func (e entries) credentials(source Source) ([]Credential, error) {
	var creds []Credential
	for _, key := range slices.Sorted(maps.Keys(e)) {
		pattern := normalize(key)
		auth, err := e[key].authConfig()
		if err != nil {
			return nil, fmt.Errorf("entry for %q: %w", pattern, err)
		}
		if pattern != "" {
			creds = append(creds, Credential{pattern: pattern, source: source, auth: keep(auth)})
		}
	}
	return creds, nil
}

func (e entry) authConfig() (authn.AuthConfig, error) {
	auth := authn.AuthConfig{
		Username:      e.Username,
		Password:      e.Password,
		IdentityToken: e.IdentityToken,
		RegistryToken: e.RegistryToken,
	}
	if e.Auth == "" {
		return auth, nil
	}
	user, password, err := decodeAuth(e.Auth)
	auth.Username, auth.Password = user, password
	return auth, err
}

// decodeAuth reads base64("user:password"), padded or not, as docker writes both.
func decodeAuth(field string) (user, password string, err error) {
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(strings.TrimSpace(field), "=") {
		encoding = base64.StdEncoding
	}
	b, err := encoding.DecodeString(field)
	if err != nil {
		return "", "", errors.New("auth is not base64: it must be base64 of user:password")
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok {
		return "", "", errors.New("auth has no colon: it must be base64 of user:password")
	}
	return user, password, nil
}

// explain describes a JSON error by place and kind. The library's own text may repeat a
// value of the input, which may be a password that someone wrote without quotes.
func explain(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not valid JSON at byte %d", syntax.Offset)
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("wrong kind of value at byte %d: must be %s", kind.Offset, kindName(kind))
	}
	return errors.New("not a docker configuration")
}

func kindName(e *json.UnmarshalTypeError) string {
	if e.Type.Kind().String() == "string" {
		return "a string"
	}
	return "an object"
}

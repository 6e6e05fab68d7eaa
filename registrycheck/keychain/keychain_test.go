package keychain

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
)

const secretWord = "pa55-w0rd"

// login is an entry whose user name says which it is.
func login(user string) string {
	return fmt.Sprintf(`{"auth":%q}`, base64.StdEncoding.EncodeToString([]byte(user+":"+secretWord)))
}

// config builds config.json of pairs "registry", "user".
func config(pairs ...string) string {
	var items []string
	for i := 0; i < len(pairs); i += 2 {
		items = append(items, fmt.Sprintf("%q:%s", pairs[i], login(pairs[i+1])))
	}
	return `{"auths":{` + strings.Join(items, ",") + `}}`
}

func secret(name, data string) corev1.Secret {
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "retail", Name: name, ResourceVersion: "7"},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(data)},
	}
}

func legacy(name, data string) corev1.Secret {
	s := secret(name, "")
	s.Type = corev1.SecretTypeDockercfg
	s.Data = map[string][]byte{corev1.DockerConfigKey: []byte(data)}
	return s
}

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return r
}

// users gives the user names of the matches, in order.
func users(t *testing.T, creds []Credential) []string {
	t.Helper()
	var out []string
	for _, c := range creds {
		auth, err := c.Authorization()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, auth.Username)
	}
	return out
}

func TestForFollowsTheKubelet(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		auths []string // registry, user, registry, user, …
		image string
		want  []string
	}{
		"host":                                        {[]string{"registry.example", "a"}, "registry.example/app", []string{"a"}},
		"other host":                                  {[]string{"registry.example", "a"}, "other.example/app", nil},
		"no entries":                                  {nil, "registry.example/app", nil},
		"scheme does not count":                       {[]string{"https://registry.example", "a"}, "registry.example/app", []string{"a"}},
		"http scheme does not count":                  {[]string{"http://registry.example", "a"}, "registry.example/app", []string{"a"}},
		"v1 suffix does not count":                    {[]string{"https://registry.example/v1/", "a"}, "registry.example/app", []string{"a"}},
		"v2 suffix does not count":                    {[]string{"registry.example/v2/", "a"}, "registry.example/app", []string{"a"}},
		"v2 without a slash is a path":                {[]string{"registry.example/v2", "a"}, "registry.example/app", nil},
		"path after v2":                               {[]string{"registry.example/v2/team", "a"}, "registry.example/team/app", []string{"a"}},
		"trailing slash":                              {[]string{"registry.example/", "a"}, "registry.example/app", []string{"a"}},
		"user-info does not count":                    {[]string{"https://u:p@registry.example", "a"}, "registry.example/app", []string{"a"}},
		"query does not count":                        {[]string{"https://registry.example?x=1", "a"}, "registry.example/app", []string{"a"}},
		"port equal":                                  {[]string{"registry.example:5000", "a"}, "registry.example:5000/app", []string{"a"}},
		"port missing in the entry":                   {[]string{"registry.example", "a"}, "registry.example:5000/app", nil},
		"port missing in the image":                   {[]string{"registry.example:5000", "a"}, "registry.example/app", nil},
		"glob for one label":                          {[]string{"*.example", "a"}, "registry.example/app", []string{"a"}},
		"glob does not span labels":                   {[]string{"*.example", "a"}, "eu.registry.example/app", nil},
		"glob with port and path":                     {[]string{"*.example:5000/team", "a"}, "registry.example:5000/team/app", []string{"a"}},
		"path":                                        {[]string{"registry.example/team", "a"}, "registry.example/team/app", []string{"a"}},
		"path is a plain prefix":                      {[]string{"registry.example/team", "a"}, "registry.example/teamwork/app", []string{"a"}},
		"path with a trailing slash ends there":       {[]string{"registry.example/team/", "a"}, "registry.example/teamwork/app", nil},
		"path elsewhere":                              {[]string{"registry.example/team", "a"}, "registry.example/other/app", nil},
		"path is the whole repository":                {[]string{"registry.example/team/app", "a"}, "registry.example/team/app", []string{"a"}},
		"more specific first":                         {[]string{"registry.example", "a", "registry.example/team", "b", "registry.example/team/app", "c"}, "registry.example/team/app", []string{"c", "b", "a"}},
		"names before stars":                          {[]string{"*.example", "a", "registry.example", "b"}, "registry.example/app", []string{"b", "a"}},
		"two spellings of one registry, sorted":       {[]string{"registry.example", "b", "https://registry.example", "a"}, "registry.example/app", []string{"a", "b"}},
		"IPv6":                                        {[]string{"[fd00::1]:5000", "a"}, "[fd00::1]:5000/app", []string{"a"}},
		"key that is no host":                         {[]string{"%zz", "a"}, "registry.example/app", nil},
		"empty key":                                   {[]string{"", "a"}, "registry.example/app", nil},
		"hub: index with v1":                          {[]string{"https://index.docker.io/v1/", "a"}, "nginx", []string{"a"}},
		"hub: index":                                  {[]string{"index.docker.io", "a"}, "org/app:v1", []string{"a"}},
		"hub: docker.io":                              {[]string{"docker.io", "a"}, "nginx", []string{"a"}},
		"hub: https docker.io":                        {[]string{"https://docker.io/", "a"}, "nginx", []string{"a"}},
		"hub: path":                                   {[]string{"docker.io/org", "a"}, "org/app", []string{"a"}},
		"hub: implied library":                        {[]string{"docker.io/library", "a"}, "nginx", []string{"a"}},
		"hub: index in the image":                     {[]string{"docker.io", "a"}, "index.docker.io/org/app", []string{"a"}},
		"hub: registry-1":                             {[]string{"registry-1.docker.io", "a"}, "nginx", []string{"a"}},
		"hub: aliases are the last resort":            {[]string{"index.docker.io", "a", "docker.io", "b"}, "nginx", []string{"b"}},
		"hub: both aliases":                           {[]string{"index.docker.io", "a", "registry-1.docker.io", "b"}, "nginx", []string{"b", "a"}},
		"hub: index without slash after v1 is a path": {[]string{"https://index.docker.io/v1", "a"}, "nginx", nil},
		"hub: glob":                                   {[]string{"*.io", "a"}, "nginx", []string{"a"}},
		"hub credentials stay at the hub":             {[]string{"https://index.docker.io/v1/", "a"}, "registry.example/app", nil},
		"hub credentials do not go to localhost":      {[]string{"https://index.docker.io/v1/", "a"}, "localhost/app", nil},
		"hub look-alike":                              {[]string{"index.docker.io", "a"}, "mydocker.io/app", nil},
		"tag and digest do not count":                 {[]string{"registry.example/app", "a"}, "registry.example/app:v1@sha256:" + strings.Repeat("a", 64), []string{"a"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := Parse(secret("regcred", config(tc.auths...)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, users(t, k.For(ref(t, tc.image)))); diff != "" {
				t.Errorf("users for %s (-want +got):\n%s", tc.image, diff)
			}
		})
	}
}

func TestEntryFields(t *testing.T) {
	t.Parallel()
	b64 := base64.StdEncoding.EncodeToString
	tests := map[string]struct {
		entry string
		want  authn.AuthConfig
	}{
		"auth":                     {`{"auth":"` + b64([]byte("u:p:q")) + `"}`, authn.AuthConfig{Username: "u", Password: "p:q"}},
		"auth without padding":     {`{"auth":"` + base64.RawStdEncoding.EncodeToString([]byte("u:pp")) + `"}`, authn.AuthConfig{Username: "u", Password: "pp"}},
		"auth with a line end":     {`{"auth":"` + b64([]byte("u:pp")) + `\n"}`, authn.AuthConfig{Username: "u", Password: "pp"}},
		"auth wins":                {`{"auth":"` + b64([]byte("u:p")) + `","username":"x","password":"y"}`, authn.AuthConfig{Username: "u", Password: "p"}},
		"username and password":    {`{"username":"u","password":"p","email":"e"}`, authn.AuthConfig{Username: "u", Password: "p"}},
		"empty password":           {`{"auth":"` + b64([]byte("u:")) + `"}`, authn.AuthConfig{Username: "u"}},
		"identity token":           {`{"identitytoken":"t"}`, authn.AuthConfig{IdentityToken: "t"}},
		"registry token":           {`{"registrytoken":"t"}`, authn.AuthConfig{RegistryToken: "t"}},
		"token beside auth":        {`{"auth":"` + b64([]byte("u:p")) + `","identitytoken":"t"}`, authn.AuthConfig{Username: "u", Password: "p", IdentityToken: "t"}},
		"nothing":                  {`{}`, authn.AuthConfig{}},
		"null":                     {`null`, authn.AuthConfig{}},
		"unknown fields":           {`{"username":"u","password":"p","color":"red"}`, authn.AuthConfig{Username: "u", Password: "p"}},
		"case of field names":      {`{"UserName":"u","Password":"p"}`, authn.AuthConfig{Username: "u", Password: "p"}},
		"user name that is a mail": {`{"username":"u@corp.example","password":"p"}`, authn.AuthConfig{Username: "u@corp.example", Password: "p"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"registry.example":` + tc.entry + `}`
			for _, s := range []corev1.Secret{secret("new", `{"auths":`+body+`}`), legacy("old", body)} {
				k, err := Parse(s)
				if err != nil {
					t.Fatal(err)
				}
				creds := k.For(ref(t, "registry.example/app"))
				if len(creds) != 1 {
					t.Fatalf("%d credentials, want 1", len(creds))
				}
				got, _ := creds[0].Authorization()
				if diff := cmp.Diff(tc.want, *got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", s.Type, diff)
				}
				if creds[0].Anonymous() != (tc.want == authn.AuthConfig{}) {
					t.Errorf("Anonymous() = %v for %s", creds[0].Anonymous(), tc.entry)
				}
			}
		})
	}
}

func TestBrokenSecretsAreNamedAndLeftOut(t *testing.T) {
	t.Parallel()
	good := secret("good", config("registry.example", "good"))
	wrongType := secret("bad", config("registry.example", "bad"))
	wrongType.Type = corev1.SecretTypeOpaque
	tests := map[string]struct {
		broken corev1.Secret
		want   string
	}{
		"no JSON":              {secret("bad", `{"auths":{`+secretWord), "reading pull Secret retail/bad: .dockerconfigjson: not valid JSON at byte 11"},
		"cut short":            {secret("bad", `{"auths":`), "not valid JSON at byte 9"},
		"number as password":   {secret("bad", `{"auths":{"registry.example":{"password":5551234}}}`), "must be a string"},
		"list of entries":      {secret("bad", `{"auths":["`+secretWord+`"]}`), "must be an object"},
		"auth is not base64":   {secret("bad", `{"auths":{"https://u:`+secretWord+`@registry.example":{"auth":"!`+secretWord+`"}}}`), `entry for "registry.example": auth is not base64`},
		"auth without a colon": {secret("bad", `{"auths":{"registry.example":{"auth":"`+base64.StdEncoding.EncodeToString([]byte(secretWord))+`"}}}`), "auth has no colon"},
		"one bad of two":       {secret("bad", `{"auths":{"registry.example":`+login("bad")+`,"x.example":{"auth":"!"}}}`), `entry for "x.example"`},
		"no data":              {secret("bad", ""), `data has no ".dockerconfigjson"`},
		"legacy, no data":      {legacy("bad", ""), `data has no ".dockercfg"`},
		"legacy, no JSON":      {legacy("bad", "auths:"), ".dockercfg: not valid JSON"},
		"legacy in new format": {legacy("bad", `{"registry.example":"`+secretWord+`"}`), "must be an object"},
		"opaque":               {wrongType, `type is "Opaque": must be kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, err := Parse(tc.broken, good)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error = %v, want one containing %q", err, tc.want)
			}
			if !strings.Contains(err.Error(), "retail/bad") {
				t.Errorf("error %q does not name the Secret", err)
			}
			if strings.Contains(err.Error(), secretWord) || strings.Contains(err.Error(), "5551234") {
				t.Errorf("error %q repeats a secret", err)
			}
			if diff := cmp.Diff([]string{"good"}, users(t, k.For(ref(t, "registry.example/app")))); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := Parse(wrongType, secret("worse", "[")); err == nil || strings.Count(err.Error(), "reading pull Secret") != 2 {
		t.Errorf("error = %v, want both Secrets named", err)
	}
}

func TestSecretsMergeIntoOneOrder(t *testing.T) {
	t.Parallel()
	first := secret("first", config("registry.example", "first", "*.example", "star"))
	second := legacy("second", `{"registry.example/team":`+login("team")+`,"registry.example":`+login("second")+`}`)
	k, err := Parse(first, second)
	if err != nil {
		t.Fatal(err)
	}
	creds := k.For(ref(t, "registry.example/team/app"))
	if diff := cmp.Diff([]string{"team", "first", "second", "star"}, users(t, creds)); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if got, want := creds[0].Source(), (Source{Namespace: "retail", Name: "second", ResourceVersion: "7"}); got != want {
		t.Errorf("Source() = %v, want %v", got, want)
	}
	if got := creds[0].Pattern(); got != "registry.example/team" {
		t.Errorf("Pattern() = %q", got)
	}
}

func TestUnionKeepsTheOrderOfSources(t *testing.T) {
	t.Parallel()
	pod, _ := Parse(secret("pod", config("*.example", "pod")))
	node, err := FromDockerConfig(strings.NewReader(config("registry.example/app", "node")))
	if err != nil {
		t.Fatal(err)
	}
	all := Union(pod, Keychain{}, node)
	if diff := cmp.Diff([]string{"pod", "node"}, users(t, all.For(ref(t, "registry.example/app")))); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if all.Len() != 2 || (Keychain{}).Len() != 0 || Of().Len() != 0 {
		t.Errorf("Len() = %d, want 2", all.Len())
	}
}

func TestFromDockerConfigFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	k, err := FromDockerConfigFile(write("config.json", `{"credsStore":"desktop","auths":{"registry.example":`+login("file")+`}}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"file"}, users(t, k.For(ref(t, "registry.example/app")))); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if got := fmt.Sprint(k.For(ref(t, "registry.example/app"))[0]); got != "credential for registry.example" {
		t.Errorf("prints as %q", got)
	}
	for name, want := range map[string]string{
		write("broken.json", "{"):                                 "not valid JSON at byte 1",
		write("huge.json", strings.Repeat(" ", maxConfigBytes+1)): "longer than 10485760 bytes",
		filepath.Join(dir, "absent.json"):                         "no such file",
	} {
		if _, err := FromDockerConfigFile(name); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("FromDockerConfigFile(%s) error = %v, want one containing %q", name, err, want)
		}
	}
}

// nested is how a careless caller keeps a credential: fmt calls no methods on fields
// that are not exported.
type nested struct {
	cred  Credential
	chain Keychain
	list  []Credential
	Cred  Credential
	Ptr   *Credential
}

func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	k, err := Parse(secret("regcred", `{"auths":{"registry.example":{"username":"scott-user","password":"`+secretWord+`","identitytoken":"id-`+secretWord+`","registrytoken":"rt-`+secretWord+`"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	c := k.For(ref(t, "registry.example/app"))[0]
	for name, value := range map[string]any{
		"credential":           c,
		"pointer":              &c,
		"slice":                []Credential{c},
		"map":                  map[string]Credential{"a": c},
		"keychain":             k,
		"keychain pointer":     &k,
		"nested":               nested{cred: c, chain: k, list: []Credential{c}, Cred: c, Ptr: &c},
		"nested pointer":       &nested{cred: c, chain: k, list: []Credential{c}, Cred: c, Ptr: &c},
		"credential by New":    New("registry.example", authn.AuthConfig{Username: "scott-user", Password: secretWord}),
		"error wrapping it":    fmt.Errorf("trying %v: refused", c),
		"anonymous credential": Credential{},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			printed := []string{string(b)}
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
				printed = append(printed, fmt.Sprintf(verb, value))
			}
			for _, s := range printed {
				for _, leak := range []string{secretWord, "scott-user", fmt.Sprintf("%x", secretWord), fmt.Sprintf("%X", secretWord)} {
					if strings.Contains(s, leak) {
						t.Errorf("printed %q", s)
					}
				}
			}
		})
	}
	if got, want := fmt.Sprintf("%#v", c), "credential for registry.example from Secret retail/regcred"; got != want {
		t.Errorf("prints as %q, want %q", got, want)
	}
	if got, want := fmt.Sprint(k), "keychain of 1 credentials"; got != want {
		t.Errorf("prints as %q, want %q", got, want)
	}
	if got := fmt.Sprint(Credential{}); got != "anonymous" {
		t.Errorf("zero value prints as %q", got)
	}
}

func TestAuthorizationIsACopy(t *testing.T) {
	t.Parallel()
	c := New("https://registry.example/v1/", authn.AuthConfig{Username: "u", Password: "p"})
	a, _ := c.Authorization()
	a.Password = "changed"
	if b, _ := c.Authorization(); b.Password != "p" {
		t.Errorf("password %q, want the original", b.Password)
	}
	if c.Pattern() != "registry.example" {
		t.Errorf("Pattern() = %q", c.Pattern())
	}
	if a, err := (Credential{}).Authorization(); err != nil || *a != (authn.AuthConfig{}) || !(Credential{}).Anonymous() {
		t.Errorf("zero value authorization not empty: %v", err)
	}
}

// FuzzParse: no input panics, whatever parses matches only hosts it names, and no error
// repeats the input's values.
func FuzzParse(f *testing.F) {
	for _, s := range []string{config("registry.example", "u"), `{"auths":{"x":null}}`, `{"auths":[]}`, "{", `{"auths":{"*.b:1/c":{"auth":"dTpw"}}}`, `{"registry.example":{"password":1}}`, `{"auths":{"[::1":{}}}`} {
		f.Add([]byte(s), "registry.example/app")
		f.Add([]byte(s), "a.b:1/c/d")
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		for _, s := range []corev1.Secret{secret("s", string(data)), legacy("s", string(data))} {
			k, err := Parse(s)
			if err != nil && k.Len() != 0 {
				t.Errorf("%d credentials beside %v", k.Len(), err)
			}
			for _, c := range k.ForRepository(name) {
				host, path, _ := strings.Cut(c.Pattern(), "/")
				_, namePath, _ := strings.Cut(name, "/")
				hub := strings.HasPrefix(name, "docker.io/") && strings.HasSuffix(host, ".docker.io")
				if !hub && (host == "" && path == "" || !strings.HasPrefix(namePath, path)) {
					t.Errorf("pattern %q matches %q", c.Pattern(), name)
				}
			}
		}
		_, _ = FromDockerConfig(strings.NewReader(string(data)))
	})
}

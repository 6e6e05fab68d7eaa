package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"edgecache.dev/registrycheck/render"
)

const password = "pa55-w0rd"

// hub is a registry with images in it. Repositories below private/ want a login.
type hub struct {
	t    *testing.T
	host string
}

func newHub(t *testing.T, start func(*httptest.Server)) *hub {
	t.Helper()
	plain := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, word, _ := r.BasicAuth()
		closed := r.URL.Path == "/v2/" || strings.HasPrefix(r.URL.Path, "/v2/private/")
		if closed && word != password && (r.URL.Path != "/v2/" || r.Header.Get("Authorization") != "") {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/v2/" && word == "" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		plain.ServeHTTP(w, r)
	}))
	start(server)
	t.Cleanup(server.Close)
	return &hub{t: t, host: server.Listener.Addr().String()}
}

// push puts an image for platforms under a name, and gives the whole reference.
func (h *hub) push(at string, seed int64, platforms ...string) string {
	h.t.Helper()
	ref, err := name.ParseReference(h.host+"/"+at, name.Insecure)
	if err != nil {
		h.t.Fatal(err)
	}
	index := v1.ImageIndex(empty.Index)
	for i, p := range platforms {
		image, err := random.Image(1000, 2, random.WithSource(seeded(seed+int64(i))))
		if err != nil {
			h.t.Fatal(err)
		}
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			h.t.Fatal(err)
		}
		image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant, RootFS: mustConfig(h.t, image).RootFS})
		if err != nil {
			h.t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	if err := remote.WriteIndex(ref, index, remote.WithAuth(&authn.Basic{Username: "u", Password: password})); err != nil {
		h.t.Fatal(err)
	}
	return h.host + "/" + at
}

func mustConfig(t *testing.T, image v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// user has a home of its own.
type user struct {
	t    *testing.T
	home string
}

func newUser(t *testing.T) user {
	t.Helper()
	return user{t, t.TempDir()}
}

func (u user) env(key string) string {
	if key == "DOCKER_CONFIG" {
		return u.home
	}
	return ""
}

// file writes a file into the home.
func (u user) file(name, text string) string {
	u.t.Helper()
	path := filepath.Join(u.home, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
	return path
}

// program runs registrycheck.
func (u user) program(stdin string, args ...string) (code int, stdout, stderr string) {
	u.t.Helper()
	var out, errs bytes.Buffer
	cmd := newCommand(&code, u.env)
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if err := cmd.ExecuteContext(u.t.Context()); err != nil {
		return exitUsage, out.String(), err.Error()
	}
	return code, out.String(), errs.String()
}

// report runs it and reads its JSON.
func (u user) report(stdin string, args ...string) (int, *render.Report) {
	u.t.Helper()
	code, out, errs := u.program(stdin, append(args, "-o", "json")...)
	var r render.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		u.t.Fatalf("exit %d, %v, of %s%s", code, err, out, errs)
	}
	if strings.Contains(out+errs, password) {
		u.t.Errorf("the password is told:\n%s%s", out, errs)
	}
	return code, &r
}

func verdicts(r *render.Report) []string {
	var all []string
	for _, i := range r.Images {
		all = append(all, fmt.Sprintf("%s %s %s", i.Reference, i.Verdict, i.Reason))
	}
	return all
}

func TestVerdictsAndExitCodes(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	h := newHub(t, (*httptest.Server).Start)
	good := h.push("good:v1", 1, "linux/amd64", "linux/arm64")
	bad, dark := h.host+"/none:v1", "127.0.0.1:1/dark:v1"
	tests := map[string]struct {
		args []string
		code int
		want []string
	}{
		"all there":                {[]string{good}, exitPullable, []string{good + " Pullable Available"}},
		"for the platforms":        {[]string{good, "--platform", "linux/amd64,linux/arm64/v8"}, exitPullable, []string{good + " Pullable Available"}},
		"one missing":              {[]string{good, "--platform", "linux/amd64,linux/s390x"}, exitNotPullable, []string{good + " NotPullable PlatformMissing"}},
		"absent":                   {[]string{good, bad}, exitNotPullable, []string{good + " Pullable Available", bad + " NotPullable NotFound"}},
		"dark":                     {[]string{dark}, exitInconclusive, []string{dark + " Inconclusive NetworkError"}},
		"absent counts more":       {[]string{dark, bad}, exitNotPullable, []string{dark + " Inconclusive NetworkError", bad + " NotPullable NotFound"}},
		"unread input counts most": {[]string{bad, "-f", "/none.yaml"}, exitUsage, []string{bad + " NotPullable NotFound"}},
		"no reference":             {[]string{"a/B"}, exitNotPullable, []string{"a/B NotPullable InvalidReference"}},
		"one image once":           {[]string{good, good}, exitPullable, []string{good + " Pullable Available"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, r := u.report("", tc.args...)
			if diff := cmp.Diff(tc.want, verdicts(r)); diff != "" || code != tc.code {
				t.Errorf("exit %d, want %d; verdicts (-want +got):\n%s", code, tc.code, diff)
			}
		})
	}
}

// TestPlatformsByDefault: without --platform it is all that the image offers.
func TestPlatformsByDefault(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	h := newHub(t, (*httptest.Server).Start)
	_, r := u.report("", h.push("good:v1", 1, "linux/amd64", "linux/arm64", "linux/arm/v7"))
	var got []string
	for _, p := range r.Images[0].Platforms {
		got = append(got, p.Platform)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64", "linux/arm/v7"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// TestCredentials: pods pull with their own Secrets, else with those of their account, else
// with what the command line gives.
func TestCredentials(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	h := newHub(t, (*httptest.Server).Start)
	image := h.push("private/app:v1", 1, "linux/amd64")
	config := func(word string) string {
		return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, h.host, base64.StdEncoding.EncodeToString([]byte("u:"+word)))
	}
	secret := func(name, word string) string {
		return "---\nkind: Secret\ntype: kubernetes.io/dockerconfigjson\nmetadata: {name: " + name + "}\nstringData: {.dockerconfigjson: '" + config(word) + "'}\n"
	}
	pod := func(spec string) string {
		return "---\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: " + image + "}]" + spec + "}\n"
	}
	right, wrong := secret("right", password), secret("wrong", "wrong")
	account := "---\nkind: ServiceAccount\nmetadata: {name: default}\nimagePullSecrets: [{name: right}]\n"
	tests := map[string]struct {
		stdin string
		args  []string
		code  int
	}{
		"none":                        {pod(""), nil, exitNotPullable},
		"the pod's":                   {pod(", imagePullSecrets: [{name: right}]") + right, nil, exitPullable},
		"not those of others":         {pod("") + right, nil, exitNotPullable},
		"each of the pod's":           {pod(", imagePullSecrets: [{name: wrong}, {name: right}]") + right + wrong, nil, exitPullable},
		"the account's":               {pod("") + right + account, nil, exitPullable},
		"the pod's instead of it":     {pod(", imagePullSecrets: [{name: wrong}]") + right + wrong + account, nil, exitNotPullable},
		"--pull-secret":               {pod(""), []string{"--pull-secret", u.file("secret.yaml", right)}, exitPullable},
		"--docker-config":             {pod(""), []string{"--docker-config", u.file("other.json", config(password))}, exitPullable},
		"a wrong Secret, then docker": {pod(", imagePullSecrets: [{name: wrong}]") + wrong, []string{"--docker-config", u.file("other.json", config(password))}, exitPullable},
		"a broken Secret":             {pod("") + strings.Replace(right, `"auths"`, `auths`, 1), nil, exitUsage},
		"no Secret":                   {pod(""), []string{"--pull-secret", u.file("pod.yaml", pod(""))}, exitUsage},
		"no configuration":            {pod(""), []string{"--docker-config", u.home + "/none.json"}, exitUsage},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := u.program(tc.stdin, append(tc.args, "-f", "-")...)
			if code != tc.code || strings.Contains(out+errs, password) {
				t.Errorf("exit %d, want %d:\n%s%s", code, tc.code, out, errs)
			}
		})
	}
	own := newUser(t)
	own.file("config.json", config(password))
	if code, out, _ := own.program(pod(""), "-f", "-"); code != exitPullable {
		t.Errorf("the user's own: exit %d:\n%s", code, out)
	}
	if code, out, _ := own.program(pod(""), "-f", "-", "--docker-config", none); code != exitNotPullable {
		t.Errorf("with none: exit %d:\n%s", code, out)
	}
}

// TestSources: each place is named, and a Secret that is nowhere is noted.
func TestSources(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	code, r := u.report("kind: Pod\nmetadata: {name: p, namespace: retail}\nspec:\n  imagePullSecrets: [{name: regcred}]\n  containers:\n  - image: A\n  - {image: B, imagePullPolicy: Never}\n", "-f", "-", "A")
	if code != exitNotPullable || len(r.Images) != 1 || len(r.Images[0].Sources) != 2 {
		t.Fatalf("exit %d, %+v", code, r)
	}
	if got, want := r.Images[0].Source, "argument 1"; got != want {
		t.Errorf("source %q, want %q", got, want)
	}
	if got, want := r.Images[0].Sources[1].String(), "stdin:6 Pod retail/p spec.containers[0].image"; got != want {
		t.Errorf("source %q, want %q", got, want)
	}
	if len(r.Notes) != 2 || !strings.Contains(r.Notes[0], "B is not checked") || !strings.Contains(r.Notes[1], "pull Secret retail/regcred is named by pods") {
		t.Errorf("notes %q", r.Notes)
	}
}

// TestLock: what is locked is found again, a tag that moves is told, and what nodes fetch
// that have what is locked.
func TestLock(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	h := newHub(t, (*httptest.Server).Start)
	image, still := h.push("app:v1", 1, "linux/amd64", "linux/arm64"), h.push("still:v1", 10, "linux/amd64")
	file := filepath.Join(t.TempDir(), "images.lock")
	if code, out, _ := u.program("", image, still, "--lock", file); code != exitPullable {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	if code, r := u.report("", "--verify-lock", file); code != exitPullable || len(r.Images) != 2 || r.Drift != nil {
		t.Errorf("verifying at once: exit %d, %+v", code, r)
	}
	h.push("app:v1", 2, "linux/amd64", "linux/arm64") // the first platform has the layers of the second before
	code, r := u.report("", "--verify-lock", file)
	if code != exitNotPullable || len(r.Drift) != 1 || r.Drift[0].Reference != image && !strings.HasSuffix(image, r.Drift[0].Reference) {
		t.Errorf("after it moved: exit %d, drift %+v", code, r.Drift)
	}
	if code, r = u.report("", "-f", file); code != exitPullable || len(r.Images) != 2 || !strings.Contains(r.Images[0].Reference, "@sha256:") {
		t.Errorf("what is locked: exit %d, %v", code, verdicts(r))
	}
	_, r = u.report("", image, still, "--changed-since", file)
	var got []string
	for _, d := range r.Downloads {
		got = append(got, fmt.Sprintf("%s %d images %d layers %t", d.Group, d.Images, d.Layers, d.Bytes > 0))
	}
	if diff := cmp.Diff([]string{"linux/amd64 1 images 2 layers true", "linux/arm64 1 images 2 layers true"}, got); diff != "" {
		t.Errorf("downloads (-want +got):\n%s", diff)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	code, r = u.report("", image, h.host+"/none", "--lock", file)
	after, err := os.ReadFile(file)
	if err != nil || code != exitNotPullable || !bytes.Equal(before, after) || len(r.Notes) != 1 {
		t.Errorf("locking what is not there: exit %d, notes %q, %v", code, r.Notes, err)
	}
}

// TestInsecureRegistry: only the hosts that are named are not verified.
func TestInsecureRegistry(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	h := newHub(t, (*httptest.Server).StartTLS)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ref, err := name.ParseReference(h.host + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithTransport(transport), remote.WithAuth(&authn.Basic{Username: "u", Password: password})); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		hosts string
		want  int
	}{{"", exitInconclusive}, {"other.example", exitInconclusive}, {h.host, exitPullable}} {
		args := []string{ref.String()}
		if tc.hosts != "" {
			args = append(args, "--insecure-registry", tc.hosts)
		}
		if code, out, _ := u.program("", args...); code != tc.want {
			t.Errorf("--insecure-registry %q: exit %d, want %d:\n%s", tc.hosts, code, tc.want, out)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "nothing to check"},
		{[]string{"a", "-o", "xml"}, "use one of table, json"},
		{[]string{"a", "--platform", "arm64"}, `--platform "arm64": must be OS/ARCH`},
		{[]string{"a", "--platform", "linux/a b"}, "--platform"},
		{[]string{"a", "--timeout", "1ms"}, "timeout"},
		{[]string{"a", "--max-wait", "-1s"}, "--max-wait -1s: must not be below 0"},
		{[]string{"a", "--runtime", "rkt"}, "runtime"},
		{[]string{"a", "--insecure-registry", "http://x"}, "must be a host without a scheme"},
		{[]string{"-f", "-", "-f", "-"}, "once only"},
		{[]string{"--verify-lock", "/none.lock"}, "--verify-lock: reading lock"},
		{[]string{"a", "--nonsense"}, "unknown flag"},
	} {
		code, _, errs := u.program("", tc.args...)
		if code != exitUsage || !strings.Contains(errs, tc.want) {
			t.Errorf("%v: exit %d, %q, want %q", tc.args, code, errs, tc.want)
		}
	}
}

// TestInterrupted: a run that is ended ends at once, and reports what it knows.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	asked := make(chan struct{}, 100)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	var out bytes.Buffer
	r := run{
		options: &options{references: []string{silent.Listener.Addr().String() + "/app"}, output: "json", timeout: 1e9 * 600, runtime: "containerd"},
		out:     &out, err: io.Discard, env: u.env,
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	code, err := r.do(ctx)
	if err != nil || code != exitInconclusive || !strings.Contains(out.String(), `"Inconclusive"`) {
		t.Errorf("exit %d, %v:\n%s", code, err, out.String())
	}
}

// source gives the same layers for the same seed.
type source struct{ *rand.PCG }

func seeded(seed int64) source { return source{rand.NewPCG(uint64(seed), 0)} }

func (s source) Int63() int64 { return int64(s.Uint64() >> 1) }

func (s source) Seed(seed int64) { s.PCG.Seed(uint64(seed), 0) }

package access

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"edgecache.dev/api/imageref"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	entry := func(change func(*Registry)) Settings {
		r := Registry{Hosts: []string{"registry.test"}}
		change(&r)
		return Settings{Registries: []Registry{r}}
	}
	mirrors := func(m ...string) Settings { return entry(func(r *Registry) { r.Mirrors = m }) }
	proxy := func(p ProxyURL) Settings { return entry(func(r *Registry) { r.Proxy = p }) }
	hosts := func(h ...string) Settings { return entry(func(r *Registry) { r.Hosts = h }) }
	tests := map[string]struct {
		settings Settings
		want     []string // one per error, in order
	}{
		"zero":    {Settings{}, nil},
		"default": {Default(), nil},
		"all": {Settings{Timeout: time.Minute, MaxRequestsPerHost: 64, Registries: []Registry{
			{Hosts: []string{"registry.test:5000", "*.corp.example", "docker.io"}, CAFile: "/etc/ca.pem", Mirrors: []string{"https://m.example", "http://m.example:5000/a/b_c"}, Proxy: "http://u:p@proxy:3128"},
			{Hosts: []string{"10.0.0.1:5000"}, PlainHTTP: true, Proxy: "direct"},
			{Hosts: []string{"[fd00::1]:5000"}, Proxy: "socks5://proxy:1080"},
		}}, nil},
		"timeout too short":      {Settings{Timeout: time.Millisecond}, []string{`timeout: Invalid value: "1ms": must be from 1s to 10m0s`}},
		"timeout too long":       {Settings{Timeout: time.Hour}, []string{`timeout: Invalid value: "1h0m0s"`}},
		"timeout negative":       {Settings{Timeout: -1}, []string{`timeout: Invalid value: "-1ns"`}},
		"requests negative":      {Settings{MaxRequestsPerHost: -1}, []string{`maxRequestsPerHost: Invalid value: -1: must be from 1 to 64`}},
		"requests too many":      {Settings{MaxRequestsPerHost: 65}, []string{`maxRequestsPerHost: Invalid value: 65`}},
		"too many registries":    {Settings{Registries: many(maxRegistries + 1)}, []string{"registries: Too many: 257: must have at most 256 items"}},
		"no host":                {hosts(), []string{"registries[0].hosts: Required value: name at least one host"}},
		"too many hosts":         {Settings{Registries: []Registry{{Hosts: manyHosts(maxHosts + 1)}}}, []string{"registries[0].hosts: Too many: 65"}},
		"host with scheme":       {hosts("https://registry.test"), []string{`registries[0].hosts[0]: Invalid value: "https://registry.test": must be a host without a scheme`}},
		"host with a password":   {hosts("a.test", "https://u:pa55@registry.test"), []string{`registries[0].hosts[1]: Invalid value: "https://…@registry.test"`}},
		"host twice":             {hosts("registry.test", "Registry.test"), []string{`registries[0].hosts[1]: Duplicate value: "Registry.test"`}},
		"host in two entries":    {Settings{Registries: []Registry{{Hosts: []string{"a.test"}}, {Hosts: []string{"a.test"}}}}, []string{`registries[1].hosts[0]: Duplicate value: "a.test"`}},
		"CA without TLS":         {entry(func(r *Registry) { r.CAFile, r.PlainHTTP = "ca.pem", true }), []string{`registries[0].caFile: Invalid value: "ca.pem": has no effect with plainHTTP`}},
		"mirror without scheme":  {mirrors("m.example"), []string{`registries[0].mirrors[0]: Invalid value: "m.example": must be a URL: write https://mirror.example`}},
		"mirror, other scheme":   {mirrors("ftp://m.example"), []string{"must be a URL"}},
		"mirror without host":    {mirrors("https:///a"), []string{"must be a URL"}},
		"mirror, no URL":         {mirrors("https://m.example:port"), []string{"must be a URL"}},
		"mirror with a user":     {mirrors("https://u:pa55@m.example"), []string{`"https://…@m.example": must not hold a user`}},
		"mirror with a query":    {mirrors("https://m.example?ns=x"), []string{"must end with the path"}},
		"mirror with a glob":     {mirrors("https://*.example"), nil},
		"mirror with v2":         {mirrors("https://m.example/v2/hub"), []string{"must not begin its path with /v2"}},
		"mirror with v2 alone":   {mirrors("https://m.example/v2/"), []string{"must not begin its path with /v2"}},
		"mirror, uppercase path": {mirrors("https://m.example/Hub"), []string{"path must be a valid repository name"}},
		"mirror twice":           {mirrors("https://m.example/a", "https://m.example/a/"), []string{"registries[0].mirrors[1]: Duplicate value"}},
		"too many mirrors":       {mirrors(manyMirrors(maxMirrors + 1)...), []string{"registries[0].mirrors: Too many: 9"}},
		"proxy without scheme":   {proxy("proxy:3128"), []string{`registries[0].proxy: Invalid value: "proxy:3128"`}},
		"proxy, other scheme":    {proxy("ftp://proxy:3128"), []string{"scheme must be http, https or socks5"}},
		"proxy with path":        {proxy("http://u:pa55@proxy:3128/x"), []string{`"http://…@proxy:3128/x": must end after the port`}},
		"several at once":        {Settings{Timeout: 1, Registries: []Registry{{Mirrors: []string{"x"}, Proxy: "y"}}}, []string{"timeout", "hosts", "mirrors[0]", "proxy"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tc.settings.Validate()
			if len(got) != len(tc.want) {
				t.Fatalf("errors = %v, want %d", got, len(tc.want))
			}
			for i, e := range got {
				if !strings.Contains(e.Error(), tc.want[i]) || strings.Contains(e.Error(), "pa55") {
					t.Errorf("error %q, want one containing %q", e, tc.want[i])
				}
			}
		})
	}
}

func many(n int) []Registry {
	var out []Registry
	for i := range n {
		out = append(out, Registry{Hosts: []string{fmt.Sprintf("r%d.test", i)}})
	}
	return out
}

func manyHosts(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("r%d.test", i))
	}
	return out
}

func manyMirrors(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("https://m%d.test", i))
	}
	return out
}

func TestNewReadsFilesAndSaysWhichIsWrong(t *testing.T) {
	t.Parallel()
	empty := t.TempDir() + "/empty.pem"
	writeFile(t, empty, "no certificate")
	tests := map[string]struct {
		registry Registry
		want     string
	}{
		"absent CA":  {Registry{Hosts: []string{"a.test"}, CAFile: "/nonexistent/ca.pem"}, "registries[0]: reading caFile: open /nonexistent/ca.pem"},
		"no CA":      {Registry{Hosts: []string{"a.test"}, CAFile: empty}, "no certificate in it: it must be PEM"},
		"wrong host": {Registry{Hosts: []string{"a/b"}}, "checking registry settings: registries[0].hosts[0]"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(Settings{Registries: []Registry{tc.registry}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New error = %v, want one containing %q", err, tc.want)
			}
		})
	}
	n, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), n.Settings()); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// TestTags: configuration files are read by JSON and by mapstructure names.
func TestTags(t *testing.T) {
	t.Parallel()
	for _, typ := range []reflect.Type{reflect.TypeFor[Settings](), reflect.TypeFor[Registry]()} {
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name != f.Tag.Get("mapstructure") {
				t.Errorf("%s.%s: json %q, mapstructure %q", typ.Name(), f.Name, name, f.Tag.Get("mapstructure"))
			}
		}
	}
	var got Settings
	const file = `
registries:
- hosts: ["registry.example:5000", "*.corp.example"]
  caFile: /etc/edgecache/ca.pem
  mirrors: ["https://mirror.example/prefix"]
  proxy: http://proxy:3128
- {hosts: [10.0.0.5:5000], plainHTTP: true}
maxRequestsPerHost: 4
`
	if err := yaml.UnmarshalStrict([]byte(file), &got); err != nil {
		t.Fatal(err)
	}
	want := Settings{MaxRequestsPerHost: 4, Registries: []Registry{
		{Hosts: []string{"registry.example:5000", "*.corp.example"}, CAFile: "/etc/edgecache/ca.pem", Mirrors: []string{"https://mirror.example/prefix"}, Proxy: "http://proxy:3128"},
		{Hosts: []string{"10.0.0.5:5000"}, PlainHTTP: true},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestProxyPasswordIsNotPrinted(t *testing.T) {
	t.Parallel()
	for _, proxy := range []ProxyURL{"http://user:pa55@proxy:3128", "http://user:p/a:@pa55@proxy", "user:pa55@proxy", "http://user:pa55@proxy/x?y=z", "http://user:%zzpa55@proxy"} {
		s := Settings{Registries: []Registry{{Hosts: []string{"a"}, Proxy: proxy}}}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		printed := []string{string(b)}
		for _, value := range []any{s, &s, s.Registries, s.Registries[0], proxy, &s.Registries[0].Proxy} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
				printed = append(printed, fmt.Sprintf(verb, value))
			}
		}
		for _, p := range printed {
			if strings.Contains(p, "pa55") || strings.Contains(p, "user") || strings.Contains(p, fmt.Sprintf("%x", "pa55")) {
				t.Errorf("printed %s", p)
			}
		}
	}
	if got := ProxyURL("http://user:pa55@proxy:3128").String(); got != "http://…@proxy:3128" {
		t.Errorf("String() = %q", got)
	}
	for _, same := range []string{"", "direct", "http://proxy:3128"} {
		if got := ProxyURL(same).String(); got != same {
			t.Errorf("String() of %q = %q", same, got)
		}
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	n, err := New(Settings{Registries: []Registry{
		{Hosts: []string{"registry.test", "docker.io"}, Mirrors: []string{"https://one.test", "http://two.test:5000/hub/"}},
		{Hosts: []string{"*.corp.test:5000"}, PlainHTTP: true},
		{Hosts: []string{"a.corp.test:5000"}, Mirrors: []string{"https://never.test"}}, // the entry before it counts
	}})
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		Host, Repository, Mirrors, Name string
		Plain                           bool
	}
	tests := map[string][]place{
		"registry.test/team/app:v1": {
			{"one.test", "team/app", "registry.test", "one.test/team/app", false},
			{"two.test:5000", "hub/team/app", "registry.test", "two.test:5000/hub/team/app", true},
			{"registry.test", "team/app", "", "registry.test/team/app", false},
		},
		"nginx": {
			{"one.test", "library/nginx", "docker.io", "one.test/library/nginx", false},
			{"two.test:5000", "hub/library/nginx", "docker.io", "two.test:5000/hub/library/nginx", true},
			{"registry-1.docker.io", "library/nginx", "", "docker.io/library/nginx", false},
		},
		"Registry.TEST/app":          {{"one.test", "app", "Registry.TEST", "one.test/app", false}, {"two.test:5000", "hub/app", "Registry.TEST", "two.test:5000/hub/app", true}, {"Registry.TEST", "app", "", "Registry.TEST/app", false}},
		"a.corp.test:5000/app":       {{"a.corp.test:5000", "app", "", "a.corp.test:5000/app", true}},
		"a.corp.test/app":            {{"a.corp.test", "app", "", "a.corp.test/app", false}},
		"other.test/app":             {{"other.test", "app", "", "other.test/app", false}},
		"registry-1.docker.io/a/app": {{"registry-1.docker.io", "a/app", "", "registry-1.docker.io/a/app", false}},
	}
	for in, want := range tests {
		t.Run(in, func(t *testing.T) {
			t.Parallel()
			ref, err := imageref.Parse(in)
			if err != nil {
				t.Fatal(err)
			}
			var got []place
			for _, e := range n.Endpoints(ref) {
				got = append(got, place{e.Host, e.Repository, e.Mirrors, e.Name(), e.plainHTTP})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "a.localhost:5000": true, "127.0.0.1": true, "127.9.9.9:5000": true,
		"[::1]:5000": true, "[::1]": true, "[::ffff:127.0.0.1]:1": true,
		"": false, "localhost.example": false, "10.0.0.1": false, "registry.test": false, "[fd00::1]:5000": false, "0.0.0.0": false,
	} {
		if got := loopback(host); got != want {
			t.Errorf("loopback(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain text":                     "plain text",
		"two\nlines\tand\x00more":        "two lines and more",
		"https://u:p@a.test/x":           "https://…@a.test/x",
		"https://a.test/x?sig=abc&d=e f": "https://a.test/x?… f",
		`Get "/x?sig=abc": failed`:       `Get "/x?…": failed`,
		"really? yes":                    "really? yes",
		"Bearer abcdefghijk":             "Bearer …",
		"authorization: basic dXNlcjpw!": "authorization: basic …!",
		"the bearer of news":             "the bearer of news",
		"bad \xff byte":                  "bad byte",
		strings.Repeat("ü", 200):         strings.Repeat("ü", 150) + "…",
	} {
		if got := Scrub(in); got != want {
			t.Errorf("Scrub(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("https://user:word@host/path?query=word")
	f.Add("Bearer wordwordword\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := Scrub(s)
		if len(got) > maxScrubbed+len("…") || strings.ContainsAny(got, "\n\r\t\x00") {
			t.Errorf("Scrub(%q) = %q", s, got)
		}
		if again := Scrub(got); len(again) > maxScrubbed+len("…") {
			t.Errorf("Scrub(%q) = %q", got, again)
		}
		if host := withoutUser("http://user:word@" + s); strings.Contains(host, "user:word") && !strings.Contains(s, "user:word") {
			t.Errorf("withoutUser gives %q", host)
		}
	})
}

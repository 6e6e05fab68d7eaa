package dialguard

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironmentProxies(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	if got := EnvironmentProxies(); len(got) != 0 {
		t.Errorf("none is set: %q", got)
	}
	t.Setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:3128/")
	t.Setenv("HTTP_PROXY", "proxy.example")
	if diff := cmp.Diff([]string{"127.0.0.1:3128", "proxy.example:80"}, EnvironmentProxies()); diff != "" {
		t.Errorf("proxies (-want +got):\n%s", diff)
	}
	for proxy, want := range map[string]string{"https://p": "p:443", "socks5://[::1]": "[::1]:1080", "http://%": ""} {
		if got := ProxyAddress(proxy); got != want {
			t.Errorf("%s: %q, want %q", proxy, got, want)
		}
	}
}

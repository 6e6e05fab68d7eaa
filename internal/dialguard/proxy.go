package dialguard

import (
	"cmp"
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// EnvironmentProxies gives the addresses of the HTTP proxies that net/http takes from the
// environment (HTTPS_PROXY, HTTP_PROXY): who sets them means them to be reached.
func EnvironmentProxies() []string {
	env := httpproxy.FromEnvironment()
	var all []string
	for _, proxy := range []string{env.HTTPSProxy, env.HTTPProxy} {
		if address := ProxyAddress(proxy); address != "" {
			all = append(all, address)
		}
	}
	return all
}

// ProxyAddress gives "host:port" of a proxy as users write it, with a scheme or without,
// "" for what is no URL.
func ProxyAddress(proxy string) string {
	if proxy == "" {
		return ""
	}
	if !strings.Contains(proxy, "://") {
		proxy = "http://" + proxy
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	implied := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), implied[u.Scheme]))
}

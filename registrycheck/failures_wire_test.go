package registrycheck

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgecache.dev/registrycheck/access"
)

// wireFailures are those before a registry is reached.
func wireFailures() []failure {
	return []failure{
		{"name that cannot be one", func(*testing.T, *server) subject { return subject{ref: "Registry.Example/App:v1"} }, ReasonInvalidReference, ""},
		{"host unknown to DNS", func(*testing.T, *server) subject {
			return subject{ref: "nope.invalid/app:v1", options: []access.Option{access.WithDial(unknownHost)}}
		}, ReasonDNSError, ""},
		{"connection refused", func(t *testing.T, _ *server) subject { return subject{ref: closedPort(t) + "/app:v1"} }, ReasonNetworkError, ""},
		{"connection lost", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 1)
			s.on(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
			return subject{}
		}, ReasonNetworkError, ""},
		{"no answer", func(t *testing.T, s *server) subject {
			s.on(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
			return subject{settings: access.Settings{Timeout: time.Second}, apart: "containerd waits for ever"}
		}, ReasonTimeout, ""},
		{"TLS: no handshake", func(t *testing.T, _ *server) subject {
			addr := listening(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
			return secure("registry.test", addr, "", time.Second)
		}, ReasonTimeout, ""},
		{"TLS: CA not trusted", func(t *testing.T, _ *server) subject {
			s, _ := newTLS(t, "registry.test", time.Now())
			return secure("registry.test", s.addr(), "", 0)
		}, ReasonTLSError, ""},
		{"TLS: CA trusted", func(t *testing.T, _ *server) subject {
			s, ca := newTLS(t, "registry.test", time.Now())
			s.image(t, "app", "v1", host, 2)
			return secure("registry.test", s.addr(), ca, 0)
		}, ReasonAvailable, ""},
		{"TLS: certificate of another host", func(t *testing.T, _ *server) subject {
			s, ca := newTLS(t, "other.test", time.Now())
			return secure("registry.test", s.addr(), ca, 0)
		}, ReasonTLSError, ""},
		{"TLS: certificate expired", func(t *testing.T, _ *server) subject {
			s, ca := newTLS(t, "registry.test", time.Now().Add(-24*time.Hour))
			return secure("registry.test", s.addr(), ca, 0)
		}, ReasonTLSError, ""},
		{"TLS: certificate not yet valid", func(t *testing.T, _ *server) subject {
			s, ca := newTLS(t, "registry.test", time.Now().Add(24*time.Hour))
			return secure("registry.test", s.addr(), ca, 0)
		}, ReasonTLSError, ""},
		{"TLS: plain HTTP spoken", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 1)
			return secure("registry.test", s.addr(), "", 0)
		}, ReasonTLSError, ""},
		{"TLS: something else spoken", func(t *testing.T, _ *server) subject {
			addr := listening(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n") })
			return secure("registry.test", addr, "", 0)
		}, ReasonTLSError, ""},
		{"TLS: spoken where plain HTTP is set", func(t *testing.T, _ *server) subject {
			s, _ := newTLS(t, "registry.test", time.Now())
			what := secure("registry.test", s.addr(), "", 0)
			what.settings.Registries = []access.Registry{{Hosts: []string{"registry.test"}, PlainHTTP: true}}
			what.hosts = strings.Replace(what.hosts, "https://", "http://", 1)
			return what
		}, ReasonRegistryError, ""},
		{"proxy not reached", func(t *testing.T, _ *server) subject {
			return proxied("http://" + closedPort(t))
		}, ReasonProxyError, ""},
		{"proxy wants a log-in", func(t *testing.T, _ *server) subject {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) }))
			t.Cleanup(proxy.Close)
			return proxied(proxy.URL)
		}, ReasonProxyError, ""},
	}
}

// unknownHost is a DNS without network.
func unknownHost(_ context.Context, network, address string) (net.Conn, error) {
	name, _, _ := net.SplitHostPort(address)
	return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}}
}

// closedPort gives an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// listening serves connections that are no HTTP.
func listening(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				serve(c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// secure asks a registry with a name of its own, over TLS, that is served at addr.
func secure(name, addr, caFile string, timeout time.Duration) subject {
	what := subject{
		ref:      name + "/app:v1",
		settings: access.Settings{Timeout: timeout},
		options:  []access.Option{at(addr)},
		hosts:    fmt.Sprintf("server = \"https://%s\"\n[host.\"https://%s\"]\n", addr, addr),
	}
	if caFile != "" {
		what.settings.Registries = []access.Registry{{Hosts: []string{name}, CAFile: caFile}}
		what.hosts += fmt.Sprintf("ca = %q\n", caFile)
	}
	return what
}

// at leads every connection to one address.
func at(addr string) access.Option {
	return access.WithDial(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	})
}

// proxied asks a registry through a proxy.
func proxied(url string) subject {
	return subject{
		ref:      "registry.test/app:v1",
		settings: access.Settings{Registries: []access.Registry{{Hosts: []string{"registry.test"}, Proxy: access.ProxyURL(url)}}},
		apart:    "containerd's proxy is that of its own environment",
	}
}

// newTLS starts a registry whose certificate is for a name, and for 127.0.0.1 when the
// name is right, valid around a time; ca is the file of the CA that signed it.
func newTLS(t *testing.T, name string, around time.Time) (s *server, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: around.Add(-time.Hour), NotAfter: around.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{name},
	}
	if name == "registry.test" {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} // as containerd is led there
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s = unstarted()
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, ca
}

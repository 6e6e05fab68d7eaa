package fetch_test

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/internal/dialguard"
)

// proxied is a name in the certificate of net/http's test servers. Only the proxy knows
// where it is: without it nothing can be pulled.
const proxied = "example.com:7443"

// connectProxy is an HTTP proxy that leads to one server whatever it is asked for.
func connectProxy(t *testing.T, to string, asked *atomic.Int32) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != proxied {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		asked.Add(1)
		server, err := new(net.Dialer).DialContext(r.Context(), "tcp", to)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			_ = server.Close()
			return
		}
		_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		join(client, server)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// join copies both ways until both sides have ended.
func join(a, b net.Conn) {
	var both sync.WaitGroup
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		_ = to.Close()
	}
	both.Go(func() { pipe(a, b) })
	pipe(b, a)
	both.Wait()
}

// TestThroughProxy pulls through a proxy on loopback that only the environment names, with
// the guard. net/http reads the environment once per process: the pull is made in a child.
func TestThroughProxy(t *testing.T) {
	t.Parallel()
	reg := fetchtest.NewTLSRegistry(t)
	d, _ := simple(t, reg)
	root, ca := t.TempDir(), filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Certificate()}), 0o600); err != nil {
		t.Fatal(err)
	}
	fetchtest.WriteHosts(t, root, proxied, "server = \"https://"+proxied+"\"\nca = \""+ca+"\"\n")
	var asked atomic.Int32
	proxy := connectProxy(t, reg.Host, &asked)
	for name, tc := range map[string]struct {
		env  string
		want string // in what the child says
	}{
		"the proxy is used":    {"HTTPS_PROXY=http://" + proxy, "PASS"},
		"NO_PROXY is honoured": {"NO_PROXY=example.com", "reason NetworkError"},
	} {
		asked.Store(0)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyChild$", "-test.v")
		cmd.Env = append(os.Environ(), "HTTPS_PROXY=http://"+proxy, "NO_PROXY=", "EDGECACHE_TEST_PULL="+d.String(), "EDGECACHE_TEST_HOSTS="+root, tc.env)
		out, _ := cmd.CombinedOutput() // what it says counts
		if used := asked.Load() > 0; !strings.Contains(string(out), tc.want) || used != (tc.want == "PASS") {
			t.Errorf("%s: asked %d times, the child said:\n%s", name, asked.Load(), out)
		}
	}
}

// TestProxyChild is the pull of TestThroughProxy; by itself it has nothing to pull.
func TestProxyChild(t *testing.T) {
	t.Parallel()
	d := digest.Digest(os.Getenv("EDGECACHE_TEST_PULL"))
	if d == "" {
		return
	}
	f := newFixture(t)
	f.opts.HostsDirs = []string{os.Getenv("EDGECACHE_TEST_HOSTS")}
	f.opts.DialContext = dialguard.New(dialguard.Options{Trusted: dialguard.EnvironmentProxies()}).DialContext
	want := fetch.Want{Name: mustRef(t, proxied+"/app:v1"), Digest: d, Platform: platforms.MustParse(node)}
	if _, err := f.puller(fetch.Options{Attempts: 1}).Image(t.Context(), want, nil); err != nil {
		t.Fatalf("%v, reason %s", err, reason(t, err, fetch.NetworkError).Reason)
	}
}

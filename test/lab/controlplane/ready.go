package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"edgecache.dev/test/lab/port"
)

// probeTimeout bounds one question to a starting server.
const probeTimeout = 20 * time.Second

// Ready returns nil when the API server's /readyz says yes, else what it says is missing.
func (c *ControlPlane) Ready(ctx context.Context) error {
	config := c.Admin()
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	return ask(ctx, transport, c.URL()+"/readyz?verbose")
}

func (c *ControlPlane) probeEtcd(ctx context.Context) error {
	return ask(ctx, plainClient(nil), "http://"+c.etcdClient.String()+"/health")
}

// healthProbe asks a server with a self-signed certificate, on loopback, whether it is healthy.
func (c *ControlPlane) healthProbe(r *port.Reservation) func(context.Context) error {
	client := plainClient(&tls.Config{InsecureSkipVerify: true})
	return func(ctx context.Context) error { return ask(ctx, client, "https://"+r.String()+"/healthz") }
}

// plainClient is an HTTP client that goes straight to its target and keeps no connection.
func plainClient(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
}

// ask returns nil if url answers 200 OK, else the failing checks that the answer lists.
func ask(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, response.Status, failingChecks(string(body)))
	}
	return nil
}

// failingChecks returns those lines of a verbose health answer that tell of a failure, or all of a short answer.
func failingChecks(body string) string {
	var failing []string
	for line := range strings.Lines(body) {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			failing = append(failing, strings.TrimSpace(check))
		}
	}
	if len(failing) == 0 {
		return strings.TrimSpace(body[:min(len(body), 500)])
	}
	return strings.Join(failing, "; ")
}

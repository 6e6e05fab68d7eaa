package integration

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"edgecache.dev/test/lab/process"
)

// TestTheControllerTellsHowItIs asks a controller for its health and its metrics.
func TestTheControllerTellsHowItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	if err := w.controller.Kill(); err != nil {
		t.Fatal(err)
	}
	told, err := w.product.Controller("telling", "--serve-address=127.0.0.1:0", "--leader-elect=true")
	if err != nil {
		t.Fatal(err)
	}
	pos := w.push("retail/pos:v1", 1<<10, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 1)
	base := "http://" + w.served(told)
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := w.get(base + path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := w.get(base + "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("profiles are served without being asked for: %d", code)
	}
	_, metrics := w.get(base + "/metrics")
	for _, want := range []string{
		`edgecache_imagecache_nodes{name="pos",namespace="default",state="ready"} 1`,
		`edgecache_image_lookups_total{verdict="Pullable"} 1`,
		`edgecache_nodeimagecache_writes_total{verb="update"} `,
		`workqueue_depth{name="nodes"} `, `rest_client_requests_total{`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// served gives the address that a program said last that it serves on.
func (w *world) served(p *process.Process) string {
	w.Helper()
	var address string
	eventually(w.T, p.Name()+" says where it serves", func() error {
		log, err := os.ReadFile(p.Log())
		if err != nil {
			return fmt.Errorf("reading log: %w", err)
		}
		found := regexp.MustCompile(`Serving .* address="([^"]+)"`).FindAllSubmatch(log, -1)
		if len(found) == 0 {
			return errors.New("not yet")
		}
		address = string(found[len(found)-1][1])
		return nil
	})
	return address
}

func (w *world) get(url string) (code int, body string) {
	w.Helper()
	request, err := http.NewRequestWithContext(w.Context(), http.MethodGet, url, nil)
	if err != nil {
		w.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return response.StatusCode, string(text)
}

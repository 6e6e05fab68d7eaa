package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/product"
)

// TestTheAgentTellsHowItIs asks an agent on its node, through a pull that it is stopped in,
// without an API server, and when it is gone.
func TestTheAgentTellsHowItIs(t *testing.T) {
	t.Parallel()
	w := newInstalled(t, 1)
	n := w.lab.Nodes()[0]
	w.startController()
	w.startAgent(n, "--serve-address=127.0.0.1:0")
	const size = 8 << 20
	pos, layer := w.push("retail/pos:v1", size, 1), w.layerOf(size, 1)
	w.slow(1 << 20)
	w.apply("pos", listing([]string{pos.Name, w.lab.Registry().Addr() + "/retail/none:v1"}, "precheck: Warn"))
	w.tells(n, "comes in", exitIncomplete, func(s *local.Status) bool {
		img := s.Images[0]
		return img.Phase == v1alpha1.PhasePulling && img.BytesPerSecond > 100_000 && img.SecondsLeft != nil && *img.SecondsLeft < 60
	})
	cuts := []cut{w.stopped(n, layer)}
	w.slow(0)
	w.expectNames(n, pos)
	w.expectNoRepeats(layer, cuts, size)
	w.apply("pos", listing([]string{pos.Name}))
	w.tells(n, "is there", 0, func(s *local.Status) bool { return s.APIServer.Reachable == metav1.ConditionTrue })
	w.endpointsTell(n)
	if err := w.lab.ControlPlane().KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	w.tells(n, "is there without an API server", 0, func(s *local.Status) bool {
		return s.APIServer.Reachable == metav1.ConditionFalse && s.APIServer.HeardSecondsAgo != nil && s.Summary.Cached == 1
	})
	if err := w.agents[n.Name()].Stop(process.Grace); err != nil {
		t.Fatal(err)
	}
	if code, out := w.status(n, "table"); code != 1 || !strings.Contains(out, "no agent answers") || !strings.Contains(out, "1 of 1 images cached (as remembered") {
		t.Errorf("without an agent: exit status %d, %s", code, out)
	}
}

// exitIncomplete is the exit status of edgecache-agent status while something is missing.
const exitIncomplete = 3

// stopped ends the agent with SIGTERM in the middle of a pull and starts it again. It gives
// what had been served of the layer by then.
func (w *world) stopped(n *node.Node, layer string) cut {
	w.Helper()
	agent := w.agents[n.Name()]
	if err := agent.Stop(process.Grace); err != nil {
		w.Fatal(err)
	}
	if w.logged(agent, "Stopped; partial downloads stay") != 1 {
		w.Error("the agent did not stop by itself")
	}
	c := w.cut(layer)
	if err := agent.Restart(); err != nil {
		w.Fatal(err)
	}
	return c
}

func (w *world) endpointsTell(n *node.Node) {
	w.Helper()
	base := "http://" + w.served(w.agents[n.Name()])
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := w.get(base + path); code != http.StatusOK {
			w.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := w.get(base + "/debug/pprof/"); code != http.StatusNotFound {
		w.Errorf("profiles are served without being asked for: %d", code)
	}
	_, metrics := w.get(base + "/metrics")
	for _, want := range []string{`edgecache_agent_images{phase="Cached"} 1`, "edgecache_agent_apiserver_up 1", "edgecache_agent_runtime_up 1", "edgecache_agent_fetched_bytes_total "} {
		if !strings.Contains(metrics, want) {
			w.Errorf("metrics lack %s", want)
		}
	}
}

// tells asks the agent until it tells what is waited for, with an exit status.
func (w *world) tells(n *node.Node, what string, exit int, holds func(*local.Status) bool) {
	w.Helper()
	eventually(w.T, "edgecache-agent status tells that the image "+what, func() error {
		code, out := w.status(n, "json")
		var s local.Status
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			return fmt.Errorf("exit status %d: %w: %s", code, err, out)
		}
		if code == exit && len(s.Images) > 0 && holds(&s) {
			return nil
		}
		return fmt.Errorf("exit status %d: %s", code, out)
	})
}

// status runs edgecache-agent status.
func (w *world) status(n *node.Node, form string) (code int, out string) {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), w.product.AgentProgram(), "status", "--state-dir", product.StateDir(n), "-o", form)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case failed:
		code = exit.ExitCode()
	case err != nil:
		w.Fatal(err)
	}
	if form == "table" { // as people see it; what is read by programs stands alone
		return code, stdout.String() + stderr.String()
	}
	return code, stdout.String()
}

package arch

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestTheAgentIsSmall: what would cost it more memory than the rest of it is not linked into
// it by any way.
func TestTheAgentIsSmall(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/edgecache-agent")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing what the agent links: %v", err)
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, module+"edgeagent") {
		t.Fatal("the agent is not among what it links")
	}
	for _, p := range linked {
		if in(p, "k8s.io/client-go/kubernetes", "k8s.io/client-go/informers", "k8s.io/client-go/dynamic", "k8s.io/apiserver",
			module+"api/client", "sigs.k8s.io/controller-runtime") {
			t.Errorf("the agent links %s", p)
		}
	}
}

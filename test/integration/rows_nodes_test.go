package integration

import (
	"fmt"
	"strings"

	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/product"
)

// f21: no taint keeps images from a node: nothing is scheduled there to bring them.
func (w *world) f21() {
	tainted, before := w.lab.Nodes()[1], w.rowImage("f21/app:v1")
	taints := []string{"f21=yes:NoSchedule", "f21=yes:NoExecute", "node-role.kubernetes.io/control-plane=:NoSchedule"}
	for _, taint := range taints {
		w.kubectl.must(w.T, "taint", "node", tainted.Name(), taint)
	}
	w.apply("f21", listing([]string{before.Name}))
	w.untilReady("f21", 3)
	w.untilHolds(tainted, before)
	w.kubectl.must(w.T, "taint", "node", tainted.Name(), "f21-", "node-role.kubernetes.io/control-plane-")
}

// f22: a registry that does not exist but in the node's own settings, as a mirror.
func (w *world) f22() {
	pushed := w.rowImage("f22/app:v1")
	mirrored := testimage.Pushed{Name: product.ExampleRegistry + "/f22/app:v1", Digest: pushed.Digest}
	w.apply("f22", listing([]string{mirrored.Name}))
	w.untilReady("f22", 3)
	for _, n := range w.lab.Nodes() {
		eventually(w.T, n.Name()+" holds what only the mirror has", func() error {
			if got := w.names(n)[mirrored.Name]; got != mirrored.Digest {
				return fmt.Errorf("digest %q", got)
			}
			return nil
		})
	}
}

// f23: there is nothing to run as an account, with a priority or beside others: no Job and
// no Pod is made.
func (w *world) f23() {
	app := w.rowImage("f23/app:v1")
	w.apply("f23", listing([]string{app.Name}))
	w.untilReady("f23", 3)
	if left := w.kubectl.must(w.T, "get", "pods,jobs,daemonsets", "--all-namespaces", "--output", "name"); strings.TrimSpace(left) != "" {
		w.Errorf("made for images: %s", left)
	}
}

// f24: no image but those that are asked for comes from any registry.
func (w *world) f24() {
	app := w.rowImage("f24/app:v1")
	w.apply("f24", listing([]string{app.Name}))
	w.untilReady("f24", 3)
	for _, n := range w.lab.Nodes() {
		for name := range w.names(n) {
			if !strings.HasPrefix(name, w.lab.Registry().Addr()+"/f") && !strings.HasPrefix(name, product.ExampleRegistry+"/f") {
				w.Errorf("%s holds %s, which no row asked for", n.Name(), name)
			}
		}
	}
}

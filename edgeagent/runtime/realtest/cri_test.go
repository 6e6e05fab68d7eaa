package realtest

import (
	"os"
	"testing"

	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/cri"
	"edgecache.dev/edgeagent/runtime/runtimetest"
)

// copyBuffer is what containerd's own pull reads before it writes (core/content).
const copyBuffer = 1 << 20

func newCRI(t *testing.T, o cri.Options) *cri.Driver {
	t.Helper()
	d, err := cri.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// trust tells containerd how to reach the registries of a certs.d directory.
func (d *daemon) trust(t *testing.T, hostsDir string) {
	t.Helper()
	if err := os.CopyFS(d.hostsDir(), os.DirFS(hostsDir)); err != nil {
		t.Fatal(err)
	}
}

func TestCRIConformance(t *testing.T) {
	t.Parallel()
	d := start(t, options{})
	runtimetest.Conformance(t, func(t *testing.T, s runtimetest.Setup) runtimetest.Harness {
		d.trust(t, s.HostsDir)
		o := cri.Options{Address: "unix://" + d.socket(), Credentials: s.Credentials}
		return runtimetest.Harness{
			Driver: newCRI(t, o),
			Reopen: func(t *testing.T) runtime.Driver { return newCRI(t, o) },
			Name:   d.name, Unname: d.unname, Has: d.has, Pinned: d.pinned, State: d.socket(), Unwritten: copyBuffer,
		}
	})
}

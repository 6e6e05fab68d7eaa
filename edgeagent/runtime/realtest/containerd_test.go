package realtest

import (
	"testing"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/containerd"
	"edgecache.dev/edgeagent/runtime/runtimetest"
)

func newContainerd(t *testing.T, o containerd.Options) *containerd.Driver {
	t.Helper()
	d, err := containerd.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestKilledAgentResumes kills an agent with SIGKILL in the middle of a layer.
func TestKilledAgentResumes(t *testing.T) {
	t.Parallel()
	d := start(t, options{})
	runtimetest.KilledAgentResumes(t, d.socket(), func(t *testing.T, socket, hosts string) runtime.Driver {
		return newContainerd(t, containerd.Options{Address: socket, Source: fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{hosts}})})
	})
}

func TestF20ContainerdConformance(t *testing.T) {
	t.Parallel()
	d := start(t, options{})
	runtimetest.Conformance(t, func(t *testing.T, s runtimetest.Setup) runtimetest.Harness {
		o := containerd.Options{
			Address: d.socket(),
			Source:  fetch.NewRegistry(fetch.RegistryOptions{HostsDirs: []string{s.HostsDir}, Credentials: s.Credentials}),
		}
		return runtimetest.Harness{
			Driver: newContainerd(t, o),
			Reopen: func(t *testing.T) runtime.Driver { return newContainerd(t, o) },
			Name:   d.name, Unname: d.unname, Damage: d.damage, Has: d.has, Pinned: d.pinned, State: d.socket(),
		}
	})
}

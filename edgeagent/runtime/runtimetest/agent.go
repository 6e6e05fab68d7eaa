package runtimetest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

// Environment of a test binary that plays an agent to be killed.
const (
	envState  = "EDGECACHE_TEST_AGENT_STATE"
	envHosts  = "EDGECACHE_TEST_AGENT_HOSTS"
	envName   = "EDGECACHE_TEST_AGENT_NAME"
	envDigest = "EDGECACHE_TEST_AGENT_DIGEST"
)

// Agent is called first in a TestMain whose package has KilledAgentResumes. In the process
// that the test starts, it ensures one image and then waits to be killed, or fails; else it
// does nothing.
func Agent(newDriver func(state, hosts string) (runtime.Driver, error)) error {
	if os.Getenv(envState) == "" {
		return nil
	}
	if err := act(newDriver); err != nil {
		return err
	}
	select {}
}

func act(newDriver func(state, hosts string) (runtime.Driver, error)) error {
	name, err := imageref.Parse(os.Getenv(envName))
	if err != nil {
		return err
	}
	d, err := newDriver(os.Getenv(envState), os.Getenv(envHosts))
	if err != nil {
		return err
	}
	return d.Ensure(context.Background(), runtime.Request{Name: name, Digest: digest.Digest(os.Getenv(envDigest))}, nil)
}

// KilledAgentResumes starts an agent as a process of its own, kills it with SIGKILL when
// half a layer is here, and wants another one to ask for the rest only. state is what the
// two share: a directory or a socket.
func KilledAgentResumes(t *testing.T, state string, newDriver func(t *testing.T, state, hosts string) runtime.Driver) {
	t.Helper()
	s := &suite{reg: fetchtest.NewRegistry(t), seed: time.Now().UnixNano()}
	img, name, d := s.push(t, "app:v1", 4_000_000)
	hosts, layer := s.reg.HostsDir(t, ""), fetchtest.Blobs(t, img)[1]
	s.reg.Set(fetchtest.Faults{CutAfter: 2_500_000, Stall: true})

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), envState+"="+state, envHosts+"="+hosts, envName+"="+name.String(), envDigest+"="+d.String())
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	store := storeOf(t, state)
	eventually(t, "half a layer is written", func() bool {
		return s.reg.Sent(layer) >= 2_500_000 && Written(t, store, layer) >= 2_500_000
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the agent ended by itself")
	}

	s.reg.Set(fetchtest.Faults{})
	s.Driver = newDriver(t, state, hosts)
	t.Cleanup(func() {
		if err := s.Driver.Close(); err != nil {
			t.Error(err)
		}
	})
	s.ensure(t, name, d)
	s.wantHeld(t, d, runtime.NamesOf(name, d)...)
	s.sentOnce(t, layer)
	t.Logf("image %d bytes, registry sent %d", fetchtest.Size(t, img), s.reg.Sent())
}

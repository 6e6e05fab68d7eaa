package realtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/toolchain"
)

// site is a node whose agent is a process, with a wish from earlier and no API server, ever.
type site struct {
	*world
	program string
	agent   *process.Process
}

func newSite(t *testing.T, wished ...v1alpha1.NodeImage) *site {
	t.Helper()
	s := &site{world: newWorld(t, options{})}
	tools, err := toolchain.Here(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if s.program, err = tools.Product(t.Context(), "edgecache-agent", toolchain.Build{Race: toolchain.RaceEnabled}); err != nil {
		t.Fatal(err)
	}
	nowhere := "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], " +
		"clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: u}]}"
	kubelet := "kind: KubeletConfiguration\nimagePullCredentialsVerificationPolicy: AlwaysVerify\n"
	if err := errors.Join(os.Mkdir(s.stateDir(), 0o700), os.WriteFile(filepath.Join(s.dir, "kubeconfig"), []byte(nowhere), 0o600),
		os.WriteFile(filepath.Join(s.dir, "kubelet.yaml"), []byte(kubelet), 0o600)); err != nil {
		t.Fatal(err)
	}
	wished = append(wished, v1alpha1.NodeImage{Name: s.request.Name.String(), Digest: s.request.Digest.String()})
	s.remembered(t, func(m *store.Store) error {
		return m.Write(store.Change{Desired: &store.Desired{
			UID: "uid", Generation: 3, NodeUID: "node-uid", Known: true, Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "node-uid", Images: wished},
		}})
	})
	t.Cleanup(func() {
		if s.agent != nil {
			if err := s.agent.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *site) stateDir() string { return filepath.Join(s.dir, "edgecache") }

// remembered opens the store while no agent has it.
func (s *site) remembered(t *testing.T, do func(*store.Store) error) {
	t.Helper()
	m, _, err := store.Open(t.Context(), s.stateDir(), "n1", func(context.Context, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(m), m.Close()); err != nil {
		t.Fatal(err)
	}
}

func (s *site) startAgent(t *testing.T) {
	t.Helper()
	var err error
	if s.agent != nil {
		err = s.agent.Restart()
	} else {
		s.agent, err = process.Start(process.Host{}, process.Command{
			Name: "agent", Log: filepath.Join(s.dir, "agent.log"),
			Argv: []string{s.program, "run", "--node-name", "n1", "--kubeconfig", filepath.Join(s.dir, "kubeconfig"), "--state-dir", s.stateDir(),
				"--runtime", "containerd", "--runtime-endpoint", s.socket(), "--hosts-dirs", s.hostsDir(), "--kubelet-config", filepath.Join(s.dir, "kubelet.yaml"),
				"--disk-reserve", "64Mi", "--serve-address=", "-v=2"},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// say waits until the agent, asked on the node, says that images are in these phases, as the
// runtime told it.
func (s *site) say(t *testing.T, want ...string) (status *local.Status) {
	t.Helper()
	var got string
	defer func() {
		if t.Failed() {
			tail, _ := process.Tail(s.agent.Log(), 25)
			t.Logf("the agent says %s\n%s", got, tail)
		}
	}()
	eventually(t, fmt.Sprintf("the agent says %q", want), func() bool {
		var err error
		if status, err = local.Ask(t.Context(), s.stateDir()); err != nil || status.Source != local.FromRuntime {
			return false
		}
		var phases []string
		for _, i := range status.Images {
			name := i.Name[strings.Index(i.Name, "/")+1:]
			phases = append(phases, strings.TrimSpace(fmt.Sprintf("%s %s %s", name, i.Phase, i.Reason)))
		}
		got = strings.Join(phases, ", ")
		return got == strings.Join(want, ", ")
	})
	return status
}

// registryAway ends every connection to the registry, or none.
func (s *site) registryAway(away bool) {
	if !away {
		s.reg.Set(fetchtest.Faults{})
		return
	}
	s.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, _ *http.Request) bool {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
		return true
	}})
}

// TestOfflineReboot: there is no API server from the beginning to the end. The agent brings
// what its store wishes. Then everything is killed, the box comes up after a power cut with no
// registry either: what is there is known at once, what was lost by hand is asked for until
// the registry is back, what the cut damaged is found and mended out of what is kept, and
// nothing is deleted.
func TestOfflineReboot(t *testing.T) {
	t.Parallel()
	reg := fetchtest.NewRegistry(t)
	img := fetchtest.Image(t, node(), fetchtest.Layer(t, 77, 300_000))
	lost := runtime.Request{Name: reg.Ref(t, "lost:v1"), Digest: reg.Push(t, "lost:v1", img)}
	s := newSite(t, v1alpha1.NodeImage{Name: lost.Name.String(), Digest: lost.Digest.String()})
	s.trust(t, reg.HostsDir(t, ""))
	s.startAgent(t)
	both := []string{"app:v1 Cached", "lost:v1 Cached"}
	if lost.Name.String() < s.request.Name.String() {
		both = []string{both[1], both[0]}
	}
	status := s.say(t, both...)
	s.wantAtRisk(t, status)

	if err := s.agent.Kill(); err != nil {
		t.Fatal(err)
	}
	s.spoilUnpacked(t)
	s.unname(t, lost.Name)
	s.unname(t, lost.Name.WithDigest(lost.Digest))
	s.collect(t)
	s.kill(t)
	s.remembered(t, func(m *store.Store) error { return m.PutVerification(store.Verification{BootID: "the boot before"}) })
	s.registryAway(true)
	away := &site{world: &world{reg: reg}}
	away.registryAway(true)

	begun := time.Now()
	s.startAgent(t)
	s.restart(t)
	up := time.Now()
	down := append([]string(nil), both...)
	for i := range down {
		down[i] = strings.Replace(down[i], "lost:v1 Cached", "lost:v1 Failed NetworkError", 1)
	}
	eventually(t, "the agent tells what the runtime has", func() bool {
		status, err := local.Ask(t.Context(), s.stateDir())
		return err == nil && status.Source == local.FromRuntime && len(status.Images) == 2
	})
	t.Logf("the agent told what is there %s after containerd was up, %s after both were started", time.Since(up).Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	s.say(t, down...)
	s.awaitVerified(t)
	s.say(t, down...)
	s.wantWhole(t)
	if sent := s.reg.Sent(); s.record(t, s.request.Name.String()) == nil || sent > s.size {
		t.Errorf("the damaged image cost %d bytes of %d, its record is there: %v", sent, s.size, s.record(t, s.request.Name.String()) != nil)
	}

	away.registryAway(false)
	s.registryAway(false)
	s.say(t, both...)
	if err := s.agent.Stop(patience); err != nil {
		t.Fatal(err)
	}
	s.remembered(t, func(m *store.Store) error {
		journal, err := m.Journal()
		if !slices.ContainsFunc(journal.Records, func(r store.Record) bool {
			return r.Kind == store.ImageDamaged && r.Digest == s.request.Digest.String()
		}) {
			t.Errorf("journal %+v, want it to tell of the damage", journal)
		}
		v, _, verr := m.Verification()
		if !v.Clean || v.Due || len(v.Damaged) > 0 {
			t.Errorf("verification %+v, want it done, and the stop noted", v)
		}
		return errors.Join(err, verr)
	})
}

// wantAtRisk wants the kubelet's policy to be told of.
func (s *site) wantAtRisk(t *testing.T, status *local.Status) {
	t.Helper()
	for _, c := range status.Conditions {
		if c.Type == v1alpha1.NodeConditionOfflineStartAtRisk {
			if c.Status != "True" || c.Reason != v1alpha1.ReasonCredentialsVerified {
				t.Errorf("OfflineStartAtRisk is %s %s: %s", c.Status, c.Reason, c.Message)
			}
			return
		}
	}
	t.Error("OfflineStartAtRisk is not told")
}

// unpackedLayer is the file of the large layer as it is unpacked.
func (s *site) unpackedLayer(t *testing.T) (path string, size int64) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "root/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs/file-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if info, err := os.Stat(f); err == nil && filepath.Base(f) != "file-77" {
			return f, info.Size()
		}
	}
	return "", 0
}

func (s *site) spoilUnpacked(t *testing.T) {
	t.Helper()
	path, _ := s.unpackedLayer(t)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
}

// awaitVerified waits until the store says that all was read and nothing is damaged any more;
// it is asked for by what was logged, as the agent has the store.
func (s *site) awaitVerified(t *testing.T) {
	t.Helper()
	eventually(t, "the images are verified", func() bool {
		log, err := os.ReadFile(s.agent.Log())
		return err == nil && strings.Contains(string(log), "Images verified after an unclean boot") && strings.Contains(string(log), "Gave up what is damaged")
	})
}

func (s *site) wantWhole(t *testing.T) {
	t.Helper()
	eventually(t, "the damaged file is whole again", func() bool { _, size := s.unpackedLayer(t); return size == 8_000_000 })
}

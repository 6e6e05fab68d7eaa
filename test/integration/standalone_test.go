package integration

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/lab/toolchain"
	"edgecache.dev/test/product"
)

// TestStandalone: the agent with files for an API server and a directory for a runtime, as a
// user has it. Files come, change, break and go; the registry goes; the agent is killed.
func TestStandalone(t *testing.T) {
	t.Parallel()
	s := newStandalone(t)
	pos, menu := s.push("pos:v1", 1), s.push("menu:v1", 2)
	s.write("pos.yaml", "{cacheSpec: [{images: ["+pos.Name+"], nodeSelector: {site: lisbon}}, {images: [r.invalid/never:v1], nodeSelector: {site: porto}}], deletionPolicy: Remove}")
	s.start()
	s.expect(pos)

	t.Log("a tag that moves is frozen, also for images that come later")
	s.push("pos:v1", 3)
	s.write("menu.yaml", "{cacheSpec: [{images: ["+menu.Name+"]}]}")
	s.expect(pos, menu)

	t.Log("a file that is wrong changes nothing, and says what is wrong")
	s.write("pos.yaml", "{cacheSpec: [{images: ['https://"+pos.Name+"']}], deletionPolicy: Remove}")
	s.logs(`pos.yaml, document 2: ImageCache default/pos: spec.cacheSpec[0].images[0]: Invalid value: \"https://` + pos.Name + `\": an image reference has no scheme`)
	s.expect(pos, menu)

	t.Log("killed, with that file, and without the registry: all is known; lost images come back when it answers")
	s.kill()
	if err := s.registry.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.layout()); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.logs("Image failed, trying again")
	if err := s.registry.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expect(pos, menu) // what pos:v1 was, not what it is

	t.Log("mended, with another image beside")
	till := s.push("till:v1", 4)
	s.write("pos.yaml", "{cacheSpec: [{images: ["+pos.Name+", "+till.Name+"]}], deletionPolicy: Remove}")
	s.expect(pos, menu, till)

	t.Log("files go: one removes, one retains")
	for _, name := range []string{"pos.yaml", "menu.yaml"} {
		if err := os.Remove(filepath.Join(s.dir, "manifests", name)); err != nil {
			t.Fatal(err)
		}
	}
	s.expect(menu)
	if err := s.agent.Stop(time.Minute); err != nil {
		t.Errorf("stopping the agent: %v", err)
	}
}

// standalone is a registry and an agent, and nothing else.
type standalone struct {
	*testing.T
	dir      string
	registry *registry.Registry
	binary   string
	agent    *process.Process
}

func newStandalone(t *testing.T) *standalone {
	t.Helper()
	tools, err := toolchain.Here(t.Output())
	if err == nil {
		err = tools.Lab(t.Context(), "registry")
	}
	if err != nil {
		t.Fatal(err)
	}
	binary, err := product.Agent(t.Context(), tools)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lab-alone-") //nolint:usetesting // the registry's socket needs a short path
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.Start(t.Context(), registry.Options{Dir: filepath.Join(dir, "registry"), Binary: tools.Path("registry")})
	if err != nil {
		t.Fatal(err)
	}
	s := &standalone{T: t, dir: dir, registry: r, binary: binary}
	t.Cleanup(s.close)
	if err := os.MkdirAll(filepath.Join(dir, "manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(dir, "hosts.d", strings.Replace(r.Addr(), ":", "_", 1)+"_")
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hosts, "hosts.toml"), fmt.Appendf(nil, "server = %q\n", "http://"+r.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *standalone) close() {
	if s.agent != nil {
		_ = s.agent.Kill()
	}
	if s.Failed() {
		tail, _ := process.Tail(filepath.Join(s.dir, "agent.log"), 40)
		s.Log(tail)
	}
	if err := errors.Join(s.registry.Close(), os.RemoveAll(s.dir)); err != nil {
		s.Error(err)
	}
}

func (s *standalone) layout() string { return filepath.Join(s.dir, "state", "images") }

func (s *standalone) start() {
	s.Helper()
	agent, err := process.Start(process.Host{}, process.Command{
		Name: "agent", Log: filepath.Join(s.dir, "agent.log"),
		Argv: []string{
			s.binary, "run", "--node-name", "till-1", "--manifest", filepath.Join(s.dir, "manifests"), "--node-labels", "site=lisbon,tier=front",
			"--runtime", "layout", "--state-dir", filepath.Join(s.dir, "state"), "--hosts-dirs", filepath.Join(s.dir, "hosts.d"), "--poll", "2s",
			"--disk-reserve", "64Mi", "--serve-address=", "-v=2",
		},
	})
	if err != nil {
		s.Fatal(err)
	}
	s.agent = agent
}

func (s *standalone) kill() {
	s.Helper()
	if err := s.agent.Kill(); err != nil {
		s.Fatal(err)
	}
}

func (s *standalone) push(reference string, seed uint64) testimage.Pushed {
	s.Helper()
	img, err := testimage.Image(testimage.Spec{Layers: []testimage.Random{{Seed: seed, Size: 1 << 18}}})
	if err != nil {
		s.Fatal(err)
	}
	pushed, err := testimage.Push(s.Context(), s.registry, reference, img)
	if err != nil {
		s.Fatal(err)
	}
	return pushed
}

// write writes a file as an editor does, not in one step.
func (s *standalone) write(name, spec string) {
	s.Helper()
	text := "# site 7\n---\napiVersion: edgecache.dev/v1alpha1\nkind: ImageCache\nmetadata: {name: " + strings.TrimSuffix(name, ".yaml") + "}\nspec: " + spec + "\n"
	if err := os.WriteFile(filepath.Join(s.dir, "manifests", name), []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

func (s *standalone) expect(images ...testimage.Pushed) {
	s.Helper()
	want := map[string]string{}
	for _, p := range images {
		want[p.Name], want[p.ByDigest()] = p.Digest, p.Digest
	}
	eventually(s.T, fmt.Sprintf("%d images are held", len(images)), func() error {
		got, err := product.NamesIn(s.layout())
		if err == nil && !maps.Equal(want, got) {
			err = fmt.Errorf("holds %v, want %v", got, want)
		}
		return err
	})
}

func (s *standalone) logs(text string) {
	s.Helper()
	eventually(s.T, "the agent says "+text, func() error {
		b, err := os.ReadFile(s.agent.Log())
		if err == nil && !strings.Contains(string(b), text) {
			err = errors.New("it does not")
		}
		return err
	})
}

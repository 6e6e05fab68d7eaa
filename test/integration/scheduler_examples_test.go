package integration

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/product"
	"edgecache.dev/test/scene"
)

// TestSchedulerExamples: the scheduler runs with each configuration of docs/examples, in the
// identity it is meant for, places pods, and counts no image twice.
func TestSchedulerExamples(t *testing.T) {
	t.Parallel()
	s := newStage(t, scene.LabOptions())
	s.must(s.Add(t.Context(), scene.Node{Name: "one", Status: reporting()}, scene.Node{Name: "two", Status: reporting()}))
	for _, tt := range []struct {
		file, scheduler string
		inPlace         bool
	}{
		{"second.yaml", "edgecache-scheduler", false},
		{"default.yaml", "default-scheduler", true},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			s := s.within(t)
			s.start(product.SchedulerSpec{Name: tt.scheduler, Config: example(t, s.lab, tt.file), InPlace: tt.inPlace})
			s.place(tt.scheduler, tt.scheduler, "registry.example/any:v1")
			s.profiled(tt.scheduler)
		})
	}
	t.Run("manifests", func(t *testing.T) {
		t.Parallel()
		k := newKubectl(t, s.lab)
		for _, file := range []string{"rbac.yaml", "deployment.yaml"} {
			if out, err := k.run(t.Context(), example(t, s.lab, file), "apply", "--validate=strict", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
				t.Errorf("%s: %s", file, out)
			}
		}
	})
}

// profiled checks what a running scheduler says of its profile.
func (s *stage) profiled(name string) {
	s.Helper()
	text, err := s.scheduler.Get(s.Context(), "/configz")
	s.must(err)
	var config map[string]struct {
		Profiles []struct {
			SchedulerName            string
			PercentageOfNodesToScore int
			Plugins                  struct {
				MultiPoint struct{ Enabled, Disabled []struct{ Name string } }
			}
		}
	}
	s.must(json.Unmarshal([]byte(text), &config))
	profiles := config["componentconfig"].Profiles
	if len(profiles) != 1 || profiles[0].SchedulerName != name || profiles[0].PercentageOfNodesToScore != 100 {
		s.Fatalf("profiles %s", text)
	}
	named := func(name string) func(struct{ Name string }) bool {
		return func(p struct{ Name string }) bool { return p.Name == name }
	}
	points := profiles[0].Plugins.MultiPoint
	if !slices.ContainsFunc(points.Enabled, named("ImageCacheLocality")) || slices.ContainsFunc(points.Enabled, named("ImageLocality")) {
		s.Errorf("enabled are %v", points.Enabled)
	}
}

// TestSchedulerRefusesBadArguments: the program ends and names field, value and fix.
func TestSchedulerRefusesBadArguments(t *testing.T) {
	t.Parallel()
	lab := cluster.ForTest(t, cluster.Options{})
	program, err := product.BuildScheduler(t.Context(), lab.Tools())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ args, want string }{
		"unknown field":  {"{offlinePolicies: Enforce}", `unknown field \"offlinePolicies\"`},
		"unknown policy": {"{offlinePolicy: Enforced}", `offlinePolicy: Unsupported value: \"Enforced\": supported values: `},
		"wrong type":     {"{maxReadyTime: soon}", `invalid duration \"soon\"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := controlplane.WriteSchedulerConfig(file, schedulerConfig(profile("edgecache-scheduler", tt.args)), lab.ControlPlane().AdminKubeconfig()); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), program, "--config", file, "--secure-port=0").CombinedOutput()
			if err == nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("ended with %v, want %q:\n%s", err, tt.want, out)
			}
		})
	}
}

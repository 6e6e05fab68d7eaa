package machine

import (
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestOutside(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/run":                            "/lab/n/run",
		"/run/containerd/containerd.sock": "/lab/n/run/containerd/containerd.sock",
		"/var/lib/containerd":             "/lab/n/var-lib/containerd",
		"/var/log/pods":                   "/lab/n/var-log/pods",
		"/runner/x":                       "/runner/x",
		"/lab/n/certs.d":                  "/lab/n/certs.d",
	} {
		if got := outside("/lab/n", path); got != want {
			t.Errorf("outside(%s) = %s, want %s", path, got, want)
		}
	}
}

func TestBootIDsAreUUIDs(t *testing.T) {
	t.Parallel()
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	a, b := newBootID(), newBootID()
	if !uuid.MatchString(a) || a == b {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestLabelsForKubelet(t *testing.T) {
	t.Parallel()
	got := joinLabels(map[string]string{"tier": "gold", "edgecache.dev/site": "lisbon", corev1.LabelHostname: "n"})
	if want := "edgecache.dev/site=lisbon,tier=gold"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestKubeletFieldsAreReplaced(t *testing.T) {
	t.Parallel()
	m := New(Options{Dir: "/lab/n", Kubelet: "failSwapOn: true\nimageGCHighThresholdPercent: 50\nauthorization: {mode: AlwaysAllow}\n"})
	text, err := m.kubeletConfig()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got["failSwapOn"] != true || got["imageGCHighThresholdPercent"] != 50.0 || got["staticPodPath"] != "/lab/n/manifests" {
		t.Errorf("got %v", got)
	}
	if _, err := New(Options{Kubelet: "["}).kubeletConfig(); err == nil {
		t.Error("broken YAML was accepted")
	}
}

func TestContainerdConfiguration(t *testing.T) {
	t.Parallel()
	m := New(Options{Dir: "/lab/n", Pause: "10.1.2.3:5000/lab/pause:1", Bin: "/bin", Containerd: "[debug]\n  level = 'debug'\n"})
	got := m.containerdConfig()
	for _, want := range []string{
		"version = 3\n", `address = "/run/containerd/containerd.sock"`, `sandbox = "10.1.2.3:5000/lab/pause:1"`,
		`config_path = "/lab/n/certs.d"`, "restrict_oom_score_adj = true", "discard_unpacked_layers = false", "level = 'debug'",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
}

func TestReadinessIsThatOfThisBoot(t *testing.T) {
	t.Parallel()
	m := &Machine{bootID: "now"}
	node := func(boot string, ready corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{
			NodeInfo:   corev1.NodeSystemInfo{BootID: boot},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "Because"}},
		}}
	}
	for name, tc := range map[string]struct {
		node *corev1.Node
		want string
	}{
		"ready":                {node("now", corev1.ConditionTrue), ""},
		"of an earlier boot":   {node("then", corev1.ConditionTrue), "has not reported"},
		"not ready":            {node("now", corev1.ConditionFalse), "Ready=False, Because"},
		"nothing reported yet": {&corev1.Node{Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: "now"}}}, "no condition"},
	} {
		err := m.readiness(tc.node)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func TestAMachineThatIsOffRunsNothing(t *testing.T) {
	t.Parallel()
	m := New(Options{})
	if _, err := m.Exec(t.Context(), "true"); err == nil {
		t.Error("a command ran")
	}
	if err := m.PauseHeartbeat(true); err == nil {
		t.Error("a kubelet that was never started was frozen")
	}
	if err := m.listening(80); err == nil {
		t.Error("a port is open")
	}
	if err := m.PowerOff(); err != nil {
		t.Errorf("powering off again: %v", err)
	}
}

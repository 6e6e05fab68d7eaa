package local

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// sample has one image of each kind.
func sample() Status {
	at := metav1.NewTime(time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC))
	images := []Image{
		{NodeImageStatus: v1alpha1.NodeImageStatus{Name: "r.example/app:v1", Digest: "sha256:" + strings.Repeat("1", 64), Phase: v1alpha1.PhaseCached, Size: 30 << 20}},
		{NodeImageStatus: v1alpha1.NodeImageStatus{Name: "r.example/db:v1", Digest: "sha256:" + strings.Repeat("2", 64), Phase: v1alpha1.PhaseFailed,
			Reason: "Unauthorized", Message: "the registry says:\nno " + strings.Repeat("x", 200), Attempts: 4, Since: &at}},
		{NodeImageStatus: v1alpha1.NodeImageStatus{Name: "r.example/ml:v2", Digest: "sha256:" + strings.Repeat("3", 64), Phase: v1alpha1.PhasePulling,
			Size: 200 << 20, BytesPulled: 50 << 20, Current: "sha256:" + strings.Repeat("4", 64)}},
		{NodeImageStatus: v1alpha1.NodeImageStatus{Name: "r.example/old:v1", Phase: v1alpha1.PhaseRemoving, Reason: "InUse", Message: "a container uses the image"}},
		{NodeImageStatus: v1alpha1.NodeImageStatus{Name: "r.example/web:v1", Phase: v1alpha1.PhasePending, Message: "waits for its turn"}},
	}
	images[1].RetryIn(83 * time.Second)
	images[2].Rate(2 << 20)
	s := Status{
		Schema: Schema, Time: at, Node: "node-1", AgentVersion: "v1.0.0", BootID: "b", UptimeSeconds: 7265, Source: FromRuntime, WishHeard: true, Images: images,
		Runtime:   Runtime{RuntimeInfo: v1alpha1.RuntimeInfo{Name: "containerd", Version: "v2.4.2", Snapshotter: "overlayfs"}},
		Disk:      &v1alpha1.DiskStatus{Capacity: 64 << 30, Available: 12 << 30, Reserve: 6 << 30},
		APIServer: &APIServer{Reachable: metav1.ConditionFalse, HeardSecondsAgo: new(180000.0), Error: "connection refused"},
		Links:     []v1alpha1.RegistryStatus{{Host: "r.example", Reachable: metav1.ConditionFalse, Since: at}},
		Conditions: []metav1.Condition{
			{Type: v1alpha1.NodeConditionReady, Status: metav1.ConditionFalse}, {Type: v1alpha1.NodeConditionDegraded, Status: metav1.ConditionTrue, Message: "the store cannot be written"},
		},
	}
	s.Count()
	return s
}

func TestTable(t *testing.T) {
	t.Parallel()
	s := sample()
	var out strings.Builder
	if err := s.Table(&out, false); err != nil {
		t.Fatal(err)
	}
	want := `Node:         node-1  1 of 4 images cached, 1 pulling, 1 pending, 1 failing, 1 being removed
Agent:        v1.0.0, running for 2h1m0s
Runtime:      containerd v2.4.2, overlayfs
Disk:         12 GiB free of 64 GiB, 6.0 GiB of it kept free
API server:   heard 50h0m0s ago, does not answer: connection refused
Registry:     r.example down since 2026-11-23T08:00:00Z
Degraded:     the store cannot be written

IMAGE              PHASE      SIZE      DETAIL
r.example/app:v1   Cached     30 MiB    
r.example/db:v1    Failed     -         Unauthorized; the registry says: no ` + strings.Repeat("x", 97) + `…; 4 attempts failed; next in 1m23s
r.example/ml:v2    Pulling    200 MiB   25% of 200 MiB at 2.0 MiB/s, 1m15s left; pods start from sha256:444444444444
r.example/old:v1   Removing   -         InUse; a container uses the image
r.example/web:v1   Pending    -         waits for its turn
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	out.Reset()
	if err := s.Table(&out, true); err != nil || !strings.Contains(out.String(), "sha256:"+strings.Repeat("4", 64)) || strings.Contains(out.String(), "…") {
		t.Errorf("wide table, error %v:\n%s", err, &out)
	}
	out.Reset()
	none := Status{ClockNotSet: true, Source: FromMemory, Runtime: Runtime{Error: "no such socket"}, APIServer: &APIServer{}}
	if err := none.Table(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"as remembered", "does not answer: no such socket", "never heard", "not set: it says", "nobody has said", "No images are wished here."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("an agent that has just started lacks %q:\n%s", want, &out)
		}
	}
}

func TestWhole(t *testing.T) {
	t.Parallel()
	s := sample()
	if s.Whole() {
		t.Error("whole with images that are missing")
	}
	s.Images = s.Images[:1]
	s.Count()
	if !s.Whole() {
		t.Error("not whole with all images cached")
	}
	s.WishHeard = false
	if s.Whole() {
		t.Error("whole although nobody has said what is wished")
	}
	s.WishHeard, s.Source = true, FromMemory
	if s.Whole() {
		t.Error("whole although it is only remembered")
	}
}

// TestSocket asks over sockets in directories with short and with long paths, after an agent
// that left its own behind.
func TestSocket(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"short": t.TempDir(), "long": filepath.Join(t.TempDir(), strings.Repeat("x", 120))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := Ask(t.Context(), dir); !errors.Is(err, ErrNoAgent) {
				t.Errorf("without an agent: %v", err)
			}
			want := sample()
			for range 2 {
				stop, err := Serve(t.Context(), dir, Handler(func() Status { return want }))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(stop)
			}
			got, err := Ask(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(asJSON(t, want), asJSON(t, *got)); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
			info, err := os.Stat(filepath.Join(dir, SocketName))
			if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
				t.Errorf("socket: %v, %v", info, err)
			}
		})
	}
}

func TestASocketThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stop, err := Serve(t.Context(), dir, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("an agent of another release: %v", err)
	}
	stop()
	if _, err := Ask(t.Context(), dir); !errors.Is(err, ErrNoAgent) {
		t.Errorf("after the agent has ended: %v", err)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// answers is a transport that says what it is told.
type answers struct{ err error }

// RoundTrip answers.
func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusUnauthorized}, a.err
}

func TestContact(t *testing.T) {
	t.Parallel()
	var c Contact
	if s := c.Status(); s.Reachable != metav1.ConditionUnknown || s.HeardSecondsAgo != nil {
		t.Errorf("before the first request: %+v", s)
	}
	server := &answers{}
	through := c.Wrap(server)
	ask := func() {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := through.RoundTrip(request)
		if err == nil && response.Body != nil {
			_ = response.Body.Close()
		}
	}
	ask()
	if s := c.Status(); s.Reachable != metav1.ConditionTrue || s.HeardSecondsAgo == nil {
		t.Errorf("after a refusal, which is an answer: %+v", s)
	}
	server.err = errors.New("no route to host " + strings.Repeat("x", 1000))
	ask()
	if s := c.Status(); s.Reachable != metav1.ConditionFalse || s.HeardSecondsAgo == nil || len(s.Error) > maxError {
		t.Errorf("after no answer: %+v", s)
	}
}

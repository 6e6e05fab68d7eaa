package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/product"
	"edgecache.dev/test/scene"
)

// TestSchedulerWithoutCRDs: it starts, places pods, and knows of images as soon as there are any.
func TestSchedulerWithoutCRDs(t *testing.T) {
	t.Parallel()
	s := setStage(t, cluster.ForTest(t, scene.LabOptions()))
	s.must(s.Add(t.Context(), scene.Node{Name: "bare"}))
	s.start(product.SchedulerSpec{Config: threeProfiles(), Args: []string{"-v=4"}})
	s.place("before", enforcing, product.ExampleRegistry+"/late/app:v1")
	s.must(s.lab.ControlPlane().InstallCRDs(t.Context(), filepath.Join(s.lab.Tools().Root(), product.CRDs)))
	app := s.image("late")
	s.row("late", reporting(), cached(app), reporting())
	s.informed()
	s.expectOn("late-2", s.place("after", enforcing, app.Name))
}

// TestSchedulerTrustsNobodyWhenMostAreSilent: a fleet whose agents are gone is no reason to place nothing.
func TestSchedulerTrustsNobodyWhenMostAreSilent(t *testing.T) {
	t.Parallel()
	s := newStage(t, scene.LabOptions())
	app := s.offline("most")
	silent := []string{"most-holder-1", "quiet-1", "quiet-2"}
	s.row("quiet", reporting(), reporting())
	s.must(s.Silence(t.Context(), silent...))
	s.start(product.SchedulerSpec{Config: threeProfiles(), Args: []string{"-v=4"}})
	s.informed()
	s.untilMetric("edgecache_scheduler_breaker_open", 1)
	s.place("most-trusting", enforcing, app.Name, inRow("most"))
	s.must(s.Speak(t.Context(), silent...))
	s.untilMetric("edgecache_scheduler_breaker_open", 0)
	s.must(s.Pod(t.Context(), "most", enforcing, app.Name, inRow("most")))
	s.refused("most", offlineMessage)
}

func (s *stage) untilMetric(name string, want float64) {
	s.Helper()
	eventually(s.T, fmt.Sprintf("%s is %v", name, want), func() error {
		if got := s.metric(name); got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
}

// TestSchedulerBatches: pods that are alike are placed by one look at the nodes, also with the plugin.
func TestSchedulerBatches(t *testing.T) {
	t.Parallel()
	s := newStage(t, scene.LabOptions())
	app := s.image("batch")
	s.row("batch", slices.Repeat([]*v1alpha1.NodeImageCacheStatus{cached(app)}, 20)...)
	s.start(product.SchedulerSpec{Config: threeProfiles()})
	s.informed()
	const pods = 20
	for i := range pods {
		s.must(s.Pod(t.Context(), fmt.Sprintf("batch-%d", i), penalizing, app.Name))
	}
	for i := range pods {
		s.placed(fmt.Sprintf("batch-%d", i))
	}
	if n := s.metric("scheduler_batch_attempts_total", `result="hint_used"`); n == 0 {
		s.Errorf("no pod of %d was placed by a look before", pods)
	}
}

// audited are options of a lab whose API server keeps a log of who asked for what.
func audited(t *testing.T, options cluster.Options) (_ cluster.Options, log string) {
	t.Helper()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	text := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}\n"
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log = filepath.Join(dir, "audit.log")
	options.APIServerArgs = append(options.APIServerArgs, "--audit-policy-file="+policy, "--audit-log-path="+log)
	return options, log
}

// writesOf gives what a user wrote by an audit log: verb, resource and subresource, how often.
func writesOf(t *testing.T, log, user string) map[string]int {
	t.Helper()
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	writes := map[string]int{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.User.Username == user && e.ObjectRef != nil {
			writes[e.Verb+" "+e.ObjectRef.APIGroup+"/"+e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource]++
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return writes
}

// writtenBySchedulers are what any scheduler writes.
var writtenBySchedulers = []string{
	"create /pods/binding", "patch /pods/status", "create events.k8s.io/events/", "patch events.k8s.io/events/",
	"create authentication.k8s.io/tokenreviews/", "create authorization.k8s.io/subjectaccessreviews/",
}

// expectWrites holds the scheduler to what any scheduler writes.
func expectWrites(t *testing.T, log string) {
	t.Helper()
	writes := writesOf(t, log, "system:serviceaccount:"+v1alpha1.SystemNamespace+":"+product.SchedulerAccount)
	if writes["create /pods/binding"] == 0 {
		t.Errorf("the log shows no binding: %v", writes)
	}
	for _, w := range slices.Sorted(maps.Keys(writes)) {
		if !slices.Contains(writtenBySchedulers, w) {
			t.Errorf("the scheduler did %s, %d times", w, writes[w])
		}
	}
}

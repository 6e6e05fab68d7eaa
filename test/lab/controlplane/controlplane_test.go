package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"edgecache.dev/test/lab/toolchain"
)

// options builds what a control plane needs and returns options for one of its own folder.
func options(t *testing.T, binaries ...string) Options {
	t.Helper()
	tools, err := toolchain.Here(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := tools.Lab(context.Background(), append(binaries, "etcd", "kube-apiserver")...); err != nil {
		t.Fatal(err)
	}
	return Options{Dir: t.TempDir(), Binary: tools.Path, Out: t.Output()}
}

func startOne(t *testing.T, o Options) *ControlPlane {
	t.Helper()
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func clientAs(t *testing.T, c *ControlPlane, user string, groups ...string) kubernetes.Interface {
	t.Helper()
	config, err := c.RESTConfig(user, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return clientFor(t, config)
}

//nolint:paralleltest,tparallel // The steps share a control plane, and follow each other.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	c := startOne(t, options(t))
	t.Run("certificates carry users and groups", func(t *testing.T) { testUsers(t, c) })
	t.Run("manifests are applied in order", func(t *testing.T) { testApply(t, c) })
	t.Run("CRDs are served when installed", func(t *testing.T) { testCRDs(t, c) })
	t.Run("a kubeconfig file outlives restarts", func(t *testing.T) { testRestart(t, c) })
	t.Run("SIGKILL of etcd and API server loses nothing", func(t *testing.T) { testKill(t, c) })
}

func testUsers(t *testing.T, c *ControlPlane) {
	admin := clientFor(t, c.Admin())
	for _, name := range []string{"a", "b"} {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := admin.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	stranger := clientAs(t, c, "stranger")
	if _, err := stranger.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a stranger lists nodes: %v, want forbidden", err)
	}
	kubelet := clientAs(t, c, "system:node:a", "system:nodes")
	labels := []byte(`{"metadata":{"annotations":{"x":"y"}}}`)
	patch := func(node string) error {
		_, err := kubelet.CoreV1().Nodes().Patch(t.Context(), node, "application/merge-patch+json", labels, metav1.PatchOptions{})
		return err
	}
	if err := patch("a"); err != nil {
		t.Errorf("a node changes itself: %v", err)
	}
	if err := patch("b"); !apierrors.IsForbidden(err) {
		t.Errorf("a node changes another: %v, want forbidden (NodeRestriction)", err)
	}
}

func testApply(t *testing.T, c *ControlPlane) {
	const manifest = `
apiVersion: v1
kind: Namespace
metadata: {name: retail}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: in-retail, namespace: retail}
data: {colour: red}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: somewhere}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-blue}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}
  validations:
  - expression: "!has(object.data) || !('colour' in object.data) || object.data.colour != 'blue'"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-blue}
spec: {policyName: no-blue, validationActions: [Deny]}
`
	applied, err := c.Apply(t.Context(), []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	if got := applied[2].GetNamespace(); got != "default" {
		t.Errorf("an object without namespace went to %q", got)
	}
	blue := []byte(strings.Replace(manifest, "colour: red", "colour: blue", 1))
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := c.Apply(ctx, blue)
		return err != nil && strings.Contains(err.Error(), "no-blue") && strings.Contains(err.Error(), "ConfigMap in-retail"), nil
	})
	if err != nil {
		t.Error("the admission policy never took effect")
	}
}

func testCRDs(t *testing.T, c *ControlPlane) {
	if err := c.InstallCRDs(t.Context(), "testdata/crds"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), []byte("apiVersion: lab.example/v1\nkind: Gadget\nmetadata: {name: g}\nspec: {colour: green}\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.InstallCRDs(t.Context(), t.TempDir()); err == nil {
		t.Error("an empty folder was installed")
	}
}

// fileClient is a client that knows only a kubeconfig file, as a program under test does.
func fileClient(t *testing.T, c *ControlPlane) kubernetes.Interface {
	t.Helper()
	path, err := c.Kubeconfig("somebody", Administrators)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	return clientFor(t, config)
}

func testRestart(t *testing.T, c *ControlPlane) {
	client := fileClient(t, c)
	before, err := client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("asking a stopped API server: %v, want connection refused", err)
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil || after.UID != before.UID {
		t.Errorf("after the restart: %v, %v; want the same object", after, err)
	}
}

func testKill(t *testing.T, c *ControlPlane) {
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("v1")
	client := clientFor(t, c.Admin())
	kept := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), kept, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		c.KillEtcd, c.KillAPIServer,
		func() error { return c.StartEtcd(t.Context()) },
		func() error { return c.StartAPIServer(t.Context()) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

func TestControllersAndScheduler(t *testing.T) {
	t.Parallel()
	o := options(t, "kube-controller-manager", "kube-scheduler")
	o.ControllerManager = &ControllerManager{}
	o.Scheduler = &Scheduler{Config: "profiles: [{schedulerName: default-scheduler}, {schedulerName: another}]"}
	c := startOne(t, o)
	client := clientFor(t, c.Admin())
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	if err != nil {
		t.Error("no service account: the controllers do nothing")
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "homeless", Namespace: "default"},
		Spec:       corev1.PodSpec{SchedulerName: "another", Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	if _, err := client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 3*time.Minute, true, func(ctx context.Context) (bool, error) {
		pod, err := client.CoreV1().Pods("default").Get(ctx, "homeless", metav1.GetOptions{})
		return err == nil && len(pod.Status.Conditions) > 0 && pod.Status.Conditions[0].Reason == corev1.PodReasonUnschedulable, nil
	})
	if err != nil {
		t.Error("the second profile did not look at the pod: the scheduler's configuration was not used")
	}
}

func TestTwoControlPlanesSideBySide(t *testing.T) {
	t.Parallel()
	first, second := startOne(t, options(t)), startOne(t, options(t))
	if first.URL() == second.URL() {
		t.Fatalf("both serve %s", first.URL())
	}
	if err := first.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	// Their certificates do not mix either.
	foreign := first.Admin()
	foreign.Host = second.URL()
	if _, err := clientFor(t, foreign).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("one control plane trusts the other's administrator")
	}
}

func TestAServerThatCannotStartIsQuoted(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.APIServerArgs = []string{"--no-such-flag"}
	_, err := Start(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "logs", "kube-apiserver.log")); err != nil {
		t.Errorf("the log is not kept: %v", err)
	}
}

func TestACancelledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := Start(ctx, options(t))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want deadline exceeded", err)
	}
}

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/lab/process"
	"edgecache.dev/test/lab/registry"
)

// preUpgrade are the examples of checks before an upgrade.
const preUpgrade = "docs/examples/pre-upgrade"

// preupgrade is a cluster into which the examples are rolled out.
type preupgrade struct {
	*world
	image  string // registrycheck's own
	values string // those of the chart for this lab
}

// TestPreUpgrade: the examples of docs/examples/pre-upgrade with our own image, Helm and private images. A release with
// an image that cannot be pulled is not rolled out, says why, and leaves what runs as it is.
//
//nolint:paralleltest // two real clusters at a time are too much for two cores
func TestPreUpgrade(t *testing.T) {
	lab := cluster.ForTest(t, cluster.Options{
		Runtime: cluster.Containerd, Nodes: 1, PreloadPause: true,
		ControllerManager: &controlplane.ControllerManager{}, Scheduler: &controlplane.Scheduler{},
	})
	if err := lab.Tools().Lab(t.Context(), "helm", "kubectl"); err != nil {
		t.Fatal(err)
	}
	p := &preupgrade{world: &world{T: t, lab: lab}}
	p.image = p.pushProgram("registrycheck")
	one, two := p.push("private/pos:v1", 1<<10, 1), p.push("private/pos:v2", 1<<10, 2)
	report := p.push("private/report:v1", 1<<10, 3)
	lab.Registry().SetAuth(&registry.Auth{Token: true, Protected: []registry.Protected{{Prefix: "private/", User: "shop", Password: "s3cret"}}})
	p.values = p.writeValues(one.Repository, report.Name)

	t.Log("without its pull Secret nothing is installed, and the log says what is missing")
	p.refused("regcred", "install", "shop", p.chart(), "--set", "image.tag=v1")
	if n := len(p.replicaSets("shop")); n != 0 {
		t.Errorf("%d ReplicaSets, want none", n)
	}
	p.helm("uninstall", "shop")

	t.Log("an install whose images can be pulled goes through, and its check is cleared away")
	p.writeSecret("regcred")
	p.helm("install", "shop", p.chart(), "--set", "image.tag=v1", "--wait")
	before := p.running(one.Name)
	p.noCheckLeft()

	t.Log("an upgrade to a tag that is not there stops with the reason, and what runs goes on running")
	p.refused("private/pos:v9", "upgrade", "shop", p.chart(), "--set", "image.tag=v9")
	if after := p.running(one.Name); after != before {
		t.Errorf("running are %+v, want still %+v", after, before)
	}
	p.failedCheck("shop-registrycheck", "NotFound", "private/pos:v9")

	t.Log("so does one whose CronJob, which runs once a month, names what is not there")
	p.refused("private/report:v9", "upgrade", "shop", p.chart(), "--set", "image.tag=v2", "--set", "report.image="+report.Repository+":v9")
	if after := p.running(one.Name); after != before {
		t.Errorf("running are %+v, want still %+v", after, before)
	}

	t.Log("an upgrade to a good tag goes through")
	p.helm("upgrade", "shop", p.chart(), "--set", "image.tag=v2", "--wait")
	if after := p.running(two.Name); after.replicaSet == before.replicaSet {
		t.Errorf("the same ReplicaSet %s runs after the upgrade", after.replicaSet)
	}
	p.noCheckLeft()

	t.Log("Argo CD's PreSync hook, run as a plain Job, tells good from bad")
	p.presync(two.Name)
	p.eventually("the Job completes", func() error { return p.job("registrycheck", batchv1.JobComplete) })
	p.deleteJob("registrycheck")
	p.presync(two.Repository + ":v9")
	p.failedCheck("registrycheck", "NotFound", "private/pos:v9")
}

func (p *preupgrade) chart() string { return filepath.Join(p.lab.Tools().Root(), preUpgrade, "chart") }

// writeValues makes the chart's values for the lab, whose registry speaks plain HTTP.
func (p *preupgrade) writeValues(repository, report string) string {
	p.Helper()
	text, err := yaml.Marshal(map[string]any{
		"image":            map[string]any{"repository": repository},
		"report":           map[string]any{"image": report},
		"imagePullSecrets": []any{map[string]any{"name": "regcred"}},
		"registrycheck": map[string]any{
			"image": p.image, "platforms": []string{"linux/" + runtime.GOARCH}, "args": []string{p.insecure()},
		},
	})
	if err != nil {
		p.Fatal(err)
	}
	file := filepath.Join(p.TempDir(), "values.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		p.Fatal(err)
	}
	return file
}

// insecure is registrycheck's flag for the lab's registry.
func (p *preupgrade) insecure() string { return "--insecure-registry=" + p.lab.Registry().Addr() }

func (p *preupgrade) writeSecret(name string) {
	p.Helper()
	config := fmt.Sprintf(`{"auths": {%q: {"username": "shop", "password": "s3cret"}}}`, p.lab.Registry().Addr())
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)},
	}
	if _, err := p.lab.Client().CoreV1().Secrets("default").Create(p.Context(), secret, metav1.CreateOptions{}); err != nil {
		p.Fatal(err)
	}
}

// tryHelm runs Helm and gives what it says.
func (p *preupgrade) tryHelm(args ...string) (string, error) {
	p.Helper()
	if args[0] == "install" || args[0] == "upgrade" {
		args = append(args, "--values", p.values)
	}
	ctx, cancel := context.WithTimeout(p.Context(), patience)
	defer cancel()
	helm := exec.CommandContext(ctx, p.lab.Tools().Path("helm"), args...)
	helm.Env = append(process.CleanEnv(), "KUBECONFIG="+p.lab.ControlPlane().AdminKubeconfig(), "HOME="+p.TempDir())
	said, err := helm.CombinedOutput()
	p.Logf("helm %s: %v\n%s", args[0], err, said)
	return string(said), err
}

func (p *preupgrade) helm(args ...string) {
	p.Helper()
	if said, err := p.tryHelm(args...); err != nil {
		p.Fatal(said, err)
	}
}

// refused runs Helm, which is to stop with a reason.
func (p *preupgrade) refused(reason string, args ...string) {
	p.Helper()
	said, err := p.tryHelm(args...)
	if err == nil || !strings.Contains(said, reason) {
		p.Fatalf("helm %q says %q, %v: want that it stops with %q", args, said, err, reason)
	}
	if strings.Contains(said, "s3cret") {
		p.Error("Helm shows the password")
	}
}

// rollout is what runs of a release.
type rollout struct{ replicaSet, pod string }

// running waits until one pod of an image runs, and gives it: the only one of the release.
func (p *preupgrade) running(image string) (r rollout) {
	p.Helper()
	p.eventually("only "+image+" runs", func() error {
		pods, err := p.lab.Client().CoreV1().Pods("default").List(p.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=pos"})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 {
			return fmt.Errorf("there are %d pods", len(pods.Items))
		}
		pod := pods.Items[0]
		if pod.Status.Phase != corev1.PodRunning || pod.Spec.Containers[0].Image != image || len(pod.OwnerReferences) != 1 {
			return fmt.Errorf("%s is %s with %s", pod.Name, pod.Status.Phase, pod.Spec.Containers[0].Image)
		}
		r = rollout{replicaSet: pod.OwnerReferences[0].Name, pod: string(pod.UID)}
		return nil
	})
	if sets := p.replicaSets("shop"); !anyDesired(sets, r.replicaSet) {
		p.Errorf("the ReplicaSets are %+v, want pods of %s alone", sets, r.replicaSet)
	}
	return r
}

func (p *preupgrade) replicaSets(release string) []appsv1.ReplicaSet {
	p.Helper()
	sets, err := p.lab.Client().AppsV1().ReplicaSets("default").List(p.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + release})
	if err != nil {
		p.Fatal(err)
	}
	return sets.Items
}

// anyDesired says whether pods are desired of the named one, and of no other.
func anyDesired(sets []appsv1.ReplicaSet, name string) (found bool) {
	for _, s := range sets {
		if *s.Spec.Replicas == 0 {
			continue
		}
		if s.Name != name {
			return false
		}
		found = true
	}
	return found
}

// noCheckLeft checks that a check that went well leaves nothing.
func (p *preupgrade) noCheckLeft() {
	p.Helper()
	p.eventually("the check is cleared away", func() error {
		jobs, err := p.lab.Client().BatchV1().Jobs("default").List(p.Context(), metav1.ListOptions{})
		if err == nil && len(jobs.Items) > 0 {
			err = fmt.Errorf("there is %s", jobs.Items[0].Name)
		}
		return err
	})
}

// failedCheck waits until a Job has failed, at its first attempt, and its log has all the words.
func (p *preupgrade) failedCheck(name string, words ...string) {
	p.Helper()
	p.eventually("the Job fails", func() error { return p.job(name, batchv1.JobFailed) })
	pods, err := p.lab.Client().CoreV1().Pods("default").List(p.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + name})
	if err != nil || len(pods.Items) != 1 {
		p.Fatalf("%d pods of Job %s, %v: want one", len(pods.Items), name, err)
	}
	said, err := p.lab.Client().CoreV1().Pods("default").GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{}).DoRaw(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	for _, word := range words {
		if !bytes.Contains(said, []byte(word)) {
			p.Errorf("the log is %q, want %q in it", said, word)
		}
	}
}

// job is nil when a Job has come to an end of this type, and fails the test at another one.
func (p *preupgrade) job(name string, end batchv1.JobConditionType) error {
	job, err := p.lab.Client().BatchV1().Jobs("default").Get(p.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue || (c.Type != batchv1.JobComplete && c.Type != batchv1.JobFailed) {
			continue
		}
		if c.Type != end {
			p.Fatalf("Job %s is %s: %s", name, c.Type, c.Message)
		}
		return nil
	}
	return errors.New("it is under way")
}

func (p *preupgrade) deleteJob(name string) {
	p.Helper()
	err := p.lab.Client().BatchV1().Jobs("default").Delete(p.Context(), name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)})
	if err != nil {
		p.Fatal(err)
	}
	p.noCheckLeft()
}

// presync applies what Argo CD would before a sync of the example, with an image of the lab's.
func (p *preupgrade) presync(image string) {
	p.Helper()
	dir := p.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(p.lab.Tools().Root(), preUpgrade, "argocd"))); err != nil {
		p.Fatal(err)
	}
	p.replace(filepath.Join(dir, "deployment.yaml"), "registry.example/shop/pos:v1", image)
	p.replace(filepath.Join(dir, "registrycheck.yaml"), "registry.example/edgecache/registrycheck:v0.1.0", p.image)
	p.replace(filepath.Join(dir, "registrycheck.yaml"), "--platform=linux/amd64", p.insecure())
	built, err := exec.CommandContext(p.Context(), p.lab.Tools().Path("kubectl"), "kustomize", dir).Output()
	if err != nil {
		p.Fatal(err)
	}
	var hooks []string
	for document := range strings.SplitSeq(string(built), "\n---\n") {
		var object unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			p.Fatal(err)
		}
		if object.GetAnnotations()["argocd.argoproj.io/hook"] == "PreSync" {
			hooks = append(hooks, document)
		}
	}
	if len(hooks) != 2 {
		p.Fatalf("%d PreSync hooks of\n%s\nwant a ConfigMap and a Job", len(hooks), built)
	}
	if _, err := p.lab.ControlPlane().Apply(p.Context(), []byte(strings.Join(hooks, "\n---\n"))); err != nil {
		p.Fatal(err)
	}
}

// replace puts new in place of old, which is to be in a file.
func (p *preupgrade) replace(file, old, with string) {
	p.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		p.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		p.Fatalf("%s has no %s", file, old)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte(old), []byte(with)), 0o600); err != nil {
		p.Fatal(err)
	}
}

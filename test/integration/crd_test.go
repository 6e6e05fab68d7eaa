package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/manifest"
	"edgecache.dev/test/lab/cluster"
)

const (
	hex64 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	crds  = "../../charts/edgecache/crds"
)

// TestAPI holds the CRDs to what users see of them on a real API server.
func TestAPI(t *testing.T) {
	t.Parallel()
	lab := cluster.ForTest(t, cluster.Options{CRDs: crds})
	for name, test := range map[string]func(*testing.T, *cluster.Cluster){
		"validation":            testValidation,
		"kube-fledged manifest": testKubeFledgedManifest,
		"explain":               testExplain,
		"immutable content":     testContentIsImmutable,
		"worst cases":           testWorstCases,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, lab)
		})
	}
}

// testValidation applies manifests and reads what a user would read. What kube-fledged's
// webhook refuses, too, is in TestRows/F25.
func testValidation(t *testing.T, lab *cluster.Cluster) {
	images := func(refs ...string) string { return fmt.Sprintf("{cacheSpec: [{images: [%s]}]}", quoted(refs)) }
	with := func(fields string) string { return "{cacheSpec: [{images: [app]}], " + fields + "}" }
	tests := map[string]struct {
		spec string
		want string // part of the message; "" accepts
	}{
		"a minimal spec":                  {spec: images("app")},
		"every form of reference":         {spec: images("nginx", "registry.example:5000/a/b:v1.2_3-X", "[fd00::1]:5000/x", "app@sha256:"+hex64, "r.example/app:v1@sha256:"+hex64, "Registry.Example/app")},
		"every field":                     {spec: with(`imagePullSecrets: [{name: s}], imagePullPolicy: Always, resolve: Node, refreshInterval: 1h30m, state: Suspended, precheck: Warn, pin: Never, keepPrevious: 3, priority: -1000, deletionPolicy: Remove, rollout: {maxConcurrentNodes: "10%", maxFailurePercent: 0}`)},
		"no periodic refresh":             {spec: with("refreshInterval: 0s")},
		"selectors":                       {spec: "{cacheSpec: [{images: [app], nodeSelector: {edgecache.dev/site: lisbon, tier: ''}, nodeAffinity: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b]}]}]}}]}"},
		"64 lists":                        {spec: lists(64, 1)},
		"1,000 references in all lists":   {spec: lists(2, 500)},
		"65 lists":                        {lists(65, 1), "spec.cacheSpec: Too many: 65: must have at most 64 items"},
		"1,001 references in all lists":   {lists(7, 143), "an ImageCache may name at most 1000 images in all its lists together: split it into several ImageCaches"},
		"a list too long":                 {lists(1, 501), "must have at most 500 items"},
		"no lists":                        {"{cacheSpec: []}", "spec.cacheSpec in body should have at least 1 items"},
		"no cacheSpec":                    {"{}", "spec.cacheSpec: Required value"},
		"a scheme":                        {images("https://registry.example/app:v1"), "an image reference has no scheme: write registry.example/app:v1 instead of https://registry.example/app:v1"},
		"a space":                         {images("app:v1 app:v2"), "an image reference has no spaces: give each image its own list item"},
		"an uppercase repository":         {images("registry.example/MyApp:v1"), "the repository of an image reference is lowercase: write registry.example/app, not registry.example/App"},
		"an uppercase familiar name":      {images("App:v1"), "the repository of an image reference is lowercase: write app:v1, not App:v1"},
		"an empty tag":                    {images("registry.example/app:"), "the tag of the image reference is empty: write app:v1, or leave out the colon"},
		"an empty tag before a digest":    {images("app:@sha256:" + hex64), "the tag of the image reference is empty"},
		"a digest cut short":              {images("app@sha256:abc"), "the digest of an image reference is sha256: and 64 lowercase hexadecimal digits"},
		"another digest algorithm":        {images("app@sha512:" + hex64 + hex64), "the digest of an image reference is sha256: and 64 lowercase hexadecimal digits"},
		"an empty reference":              {images(""), "should be at least 1 chars long"},
		"a reference too long":            {images(strings.Repeat("a", 256)), "Too long: may not be more than 255"},
		"not a reference":                 {images("-app"), `spec.cacheSpec[0].images[0]: Invalid value: "-app"`},
		"an unknown pull policy":          {with("imagePullPolicy: Sometimes"), `supported values: "Always", "IfNotPresent"`},
		"an unknown state":                {with("state: Paused"), `supported values: "Cached", "Suspended", "Purged"`},
		"an unknown deletion policy":      {with("deletionPolicy: Delete"), `supported values: "Retain", "Remove"`},
		"an unknown pin":                  {with("pin: true"), "spec.pin"},
		"a refresh interval without unit": {with(`refreshInterval: "15"`), "spec.refreshInterval"},
		"a refresh interval too short":    {with("refreshInterval: 9s"), "refreshInterval must be 0s (no periodic refresh) or at least 10s"},
		"too many previous":               {with("keepPrevious: 4"), "spec.keepPrevious in body should be less than or equal to 3"},
		"a priority out of range":         {with("priority: 1001"), "spec.priority in body should be less than or equal to 1000"},
		"a wrong percentage":              {with(`rollout: {maxConcurrentNodes: "0%"}`), `maxConcurrentNodes must be a number from 1 to 1000000 or a percentage from "1%" to "100%"`},
		"more nodes than there are":       {with(`rollout: {maxConcurrentNodes: 3000000000}`), "maxConcurrentNodes must be a number from 1 to 1000000"}, // would not fit int32, and blind every client
		"a negative number of nodes":      {with(`rollout: {maxConcurrentNodes: -1}`), "maxConcurrentNodes must be a number from 1 to 1000000"},
		"a failure share over 100":        {with(`rollout: {maxFailurePercent: 101}`), "less than or equal to 100"},
		"a label key that is none":        {"{cacheSpec: [{images: [app], nodeSelector: {'a b': c}}]}", "nodeSelector keys must be label names"},
		"an unknown field":                {with("imagePullSecret: s"), `unknown field "spec.imagePullSecret"`},
		"seventeen pull secrets":          {with("imagePullSecrets: [" + secrets(17) + "]"), "Too many: 17: must have at most 16 items"},
	}
	kubectl := newKubectl(t, lab)
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("{apiVersion: edgecache.dev/v1alpha1, kind: ImageCache, metadata: {name: %s, namespace: default}, spec: %s}", slug(name), tc.spec)
			if _, err := manifest.Parse("file", []byte(text)); (err == nil) != (tc.want == "") {
				t.Errorf("an agent without an API server says %v, want %q", err, tc.want)
			}
			out, err := kubectl.apply(t, text)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %s", out)
			case tc.want != "" && err == nil:
				t.Errorf("accepted, want %q", tc.want)
			case !strings.Contains(out, tc.want):
				t.Errorf("message:\n%s\nwant %q", out, tc.want)
			}
		})
	}
}

// testKubeFledgedManifest: its sample works with only the apiVersion changed.
func testKubeFledgedManifest(t *testing.T, lab *cluster.Cluster) {
	kubectl := newKubectl(t, lab)
	kubectl.must(t, "create", "namespace", "kube-fledged")
	out, err := kubectl.apply(t, `
apiVersion: edgecache.dev/v1alpha1
kind: ImageCache
metadata:
  name: imagecache1
  namespace: kube-fledged
  labels:
    app: kubefledged
    kubefledged: imagecache
spec:
  cacheSpec:
  - images:
    - ghcr.io/jitesoft/nginx:1.23.1
  - images:
    - us.gcr.io/k8s-artifacts-prod/cassandra:v7
    - us.gcr.io/k8s-artifacts-prod/etcd:3.5.4-0
    nodeSelector:
      tier: backend
  imagePullSecrets:
  - name: myregistrykey
`)
	if err != nil {
		t.Fatal(out)
	}
	for _, want := range []string{"READY", "FAILED", "UNREACHABLE", "PULLABLE", "AGE"} {
		if out := kubectl.must(t, "-n", "kube-fledged", "get", "ic"); !strings.Contains(out, want) {
			t.Errorf("kubectl get ic has no column %s:\n%s", want, out)
		}
	}
}

// testExplain: the fields that users meet have descriptions.
func testExplain(t *testing.T, lab *cluster.Cluster) {
	kubectl := newKubectl(t, lab)
	eventually(t, "the schema is published", func() error {
		_, err := kubectl.run(t.Context(), "", "explain", "imagecache")
		return err
	})
	for _, field := range []string{
		"imagecache", "imagecache.spec", "imagecache.spec.cacheSpec", "imagecache.spec.cacheSpec.images", "imagecache.spec.rollout",
		"imagecache.spec.rollout.maxConcurrentNodes", "imagecache.status", "imagecache.status.nodes", "nodeimagecache.spec", "nodeimagecache.spec.images",
		"nodeimagecache.status.images", "imagecontent", "imagecontent.platforms.layers",
	} {
		out := kubectl.must(t, "explain", field)
		if strings.Contains(out, "<empty>") || strings.Contains(out, "<no description>") {
			t.Errorf("kubectl explain %s lacks a description:\n%s", field, out)
		}
	}
	out := kubectl.must(t, "explain", "imagecache.spec", "--recursive")
	for _, want := range []string{"cacheSpec", "imagePullSecrets", "refreshInterval", "keepPrevious", "maxConcurrentNodes", "enum: Cached, Suspended, Purged"} {
		if !strings.Contains(out, want) {
			t.Errorf("kubectl explain imagecache.spec --recursive lacks %q", want)
		}
	}
}

// testContentIsImmutable: what a digest stands for never changes, repositories only grow.
func testContentIsImmutable(t *testing.T, lab *cluster.Cluster) {
	contents := versioned.NewForConfigOrDie(lab.ControlPlane().Admin()).EdgecacheV1alpha1().ImageContents()
	content := &v1alpha1.ImageContent{
		ObjectMeta:   metav1.ObjectMeta{Name: "sha256-" + hex64},
		Repositories: []string{"registry.example/app"},
		Platforms:    []v1alpha1.PlatformContent{{OS: "linux", Architecture: "amd64", ManifestDigest: "sha256:" + hex64, ConfigDigest: "sha256:" + hex64, Size: 1}},
	}
	if _, err := contents.Create(t.Context(), content, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	patches := map[string]string{
		`{"repositories":["registry.example/app","mirror.example/app"]}`: "",
		`{"platforms":[]}`: "platforms cannot change",
	}
	for patch, want := range patches {
		_, err := contents.Patch(t.Context(), content.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("patch %s: %v, want %q", patch, err, want)
		}
	}
}

type kubectl struct {
	path, kubeconfig string
}

func newKubectl(t *testing.T, lab *cluster.Cluster) kubectl {
	t.Helper()
	if err := lab.Tools().Lab(t.Context(), "kubectl"); err != nil {
		t.Fatal(err)
	}
	return kubectl{path: lab.Tools().Path("kubectl"), kubeconfig: lab.ControlPlane().AdminKubeconfig()}
}

func (k kubectl) run(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, k.path, append([]string{"--kubeconfig", k.kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (k kubectl) apply(t *testing.T, manifest string) (string, error) {
	t.Helper()
	return k.run(t.Context(), manifest, "apply", "-f", "-")
}

func (k kubectl) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := k.run(t.Context(), "", args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// patience bounds each wait: how long a machine may be busy with other tests.
const patience = 5 * time.Minute

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func quoted(refs []string) string {
	if len(refs) == 0 {
		return ""
	}
	b, err := json.Marshal(refs)
	if err != nil {
		panic(err)
	}
	return strings.Trim(string(b), "[]")
}

func lists(n, each int) string {
	var all []string
	for i := range n {
		var refs []string
		for j := range each {
			refs = append(refs, fmt.Sprintf("app-%d-%d", i, j))
		}
		all = append(all, "{images: ["+quoted(refs)+"]}")
	}
	return "{cacheSpec: [" + strings.Join(all, ", ") + "]}"
}

func secrets(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("{name: s%d}", i))
	}
	return strings.Join(all, ", ")
}

// slug makes an object name of a test name.
func slug(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(name))), "-")
}

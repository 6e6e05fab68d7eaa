package extract

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// found gives "line use image field" of each finding.
func found(in Inputs) []string {
	var all []string
	for _, f := range in.Findings {
		all = append(all, fmt.Sprintf("%d %s %s %s", f.Source.Line, f.Use, f.Image, f.Source.Field))
	}
	return all
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want []string
	}{
		"nothing":       {"", nil},
		"comments only": {"# Source: a/templates/b.yaml\n---\n# nothing\n", nil},
		"pod with all kinds of containers and an image volume": {`kind: Pod
apiVersion: v1
metadata: {name: p}
spec:
  initContainers:
  - image: a:1
  containers:
  - name: x
    image: "b:2"
  ephemeralContainers: [{image: c:3}]
  volumes:
  - name: v
    image:
      reference: d:4
  - name: w
    emptyDir: {}
`, []string{
			"6 initContainer a:1 spec.initContainers[0].image", "9 container b:2 spec.containers[0].image",
			"10 ephemeralContainer c:3 spec.ephemeralContainers[0].image", "14 volume d:4 spec.volumes[0].image.reference",
		}},
		"lines count across documents": {"---\n---\nkind: Pod\nspec: {containers: [{image: a}]}\n--- # next\nkind: Pod\nspec: {containers: [{image: b}]}\n...\n---\nkind: Pod\nspec:\n  containers:\n  - image: c\n",
			[]string{"4 container a spec.containers[0].image", "7 container b spec.containers[0].image", "13 container c spec.containers[0].image"}},
		"document on the line of its mark": {"--- {kind: Pod, spec: {containers: [{image: a}]}}\n", []string{"1 container a spec.containers[0].image"}},
		"CronJob":                          {`{"kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"image":"a"}]}}}}}}`, []string{"1 container a spec.jobTemplate.spec.template.spec.containers[0].image"}},
		"JSON with tabs, twice":            {"{\n\t\"kind\": \"Pod\",\n\t\"spec\": {\"containers\": [\n\t\t{\"image\": \"a\"}]}\n}\n---\n{\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"b\"}]}}", []string{"4 container a spec.containers[0].image", "7 container b spec.containers[0].image"}},
		"Windows line ends":                {"kind: Pod\r\nspec:\r\n  containers:\r\n  - image: a\r\n---\r\nkind: Pod\r\nspec:\r\n  containers:\r\n  - image: b\r\n", []string{"4 container a spec.containers[0].image", "9 container b spec.containers[0].image"}},
		"any kind, by shape": {`apiVersion: apps.example/v1
kind: Fleet
spec:
  groups:
  - deeper: {workload: {template: {spec: {containers: [{image: a}]}}}}
  image: not-a-pod
  containers: {image: nor-this}
`, []string{"5 container a spec.groups[0].deeper.workload.template.spec.containers[0].image"}},
		"List":                           {"kind: List\nitems:\n- kind: Pod\n  metadata: {name: p}\n  spec: {containers: [{image: a}]}\n", []string{"5 container a spec.containers[0].image"}},
		"typed List":                     {"kind: DeploymentList\nitems:\n- spec: {template: {spec: {containers: [{image: a}]}}}\n", []string{"3 container a spec.template.spec.containers[0].image"}},
		"list without a kind":            {`[{"kind":"Pod","spec":{"containers":[{"image":"a"}]}}]`, []string{"1 container a spec.containers[0].image"}},
		"ImageCache":                     {"apiVersion: edgecache.dev/v1alpha1\nkind: ImageCache\nspec:\n  cacheSpec:\n  - images:\n    - a\n    - b\n", []string{"6 imageCache a spec.cacheSpec[0].images[0]", "7 imageCache b spec.cacheSpec[0].images[1]"}},
		"Argo Workflow":                  {"apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  templates:\n  - container: {image: a}\n  - script: {image: b}\n    sidecars: [{image: c}]\n", []string{"5 container a spec.templates[0].container.image", "6 container b spec.templates[1].script.image", "7 container c spec.templates[1].sidecars[0].image"}},
		"Tekton Task":                    {"apiVersion: tekton.dev/v1\nkind: Task\nspec:\n  steps:\n  - image: a\n", []string{"5 container a spec.steps[0].image"}},
		"steps of others":                {"apiVersion: other.dev/v1\nkind: Task\nspec:\n  steps:\n  - image: a\n", nil},
		"status and schema do not count": {"kind: CustomResourceDefinition\nspec: {containers: [{image: a}]}\n---\nkind: Pod\nstatus: {containers: [{image: b}]}\nmetadata: {containers: [{image: c}]}\n", nil},
		"merged and aliased": {`kind: Job
x: &c {image: a}
spec:
  template:
    spec: &s
      containers: [*c, {<<: *c, name: x}, {<<: [*c], image: b}]
other: {<<: *s, priority: 1}
`, []string{
			"2 container a spec.template.spec.containers[0].image", "2 container a spec.template.spec.containers[1].image", "6 container b spec.template.spec.containers[2].image",
			"2 container a other.containers[0].image", "2 container a other.containers[1].image", "6 container b other.containers[2].image",
		}},
		"of a key that is there twice the last": {"kind: Pod\nspec: {containers: [{image: a, image: b}]}\n", []string{"2 container b spec.containers[0].image"}},
		"injected images have no reference":     {"kind: Pod\nspec: {containers: [{image: a}, {name: x}, {image: ''}, {image: null}]}\n", []string{"2 container a spec.containers[0].image"}},
		"numbers are text":                      {"kind: Pod\nspec: {containers: [{image: 1234}]}\n", []string{"2 container 1234 spec.containers[0].image"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in Inputs
			in.Parse("f.yaml", []byte(tc.text))
			if err := errors.Join(in.Errors...); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, found(in)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWrongInputIsNamed: what is wrong is said with its line, and all else is read.
func TestWrongInputIsNamed(t *testing.T) {
	t.Parallel()
	good := "kind: Pod\nspec: {containers: [{image: good}]}\n---\n"
	var bomb strings.Builder
	bomb.WriteString("kind: X\na: &a [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		again := strings.Repeat(fmt.Sprintf("*%c,", 'a'+i), 10)
		fmt.Fprintf(&bomb, "%c: &%c [%s]\n", 'b'+i, 'b'+i, strings.TrimSuffix(again, ","))
	}
	tests := map[string]struct{ text, want string }{
		"YAML":          {"kind: Pod\nspec:\n  a: b: c\n", "f.yaml:6: not YAML or JSON: mapping values are not allowed in this context"},
		"tab":           {"kind: Pod\nspec:\n\ta: b\n", "f.yaml:6: not YAML or JSON: found character that cannot start any token"},
		"template":      {"kind: Pod\nmetadata: {{ .Values.x }}\n  name: {{ .Release.Name }}\n", "f.yaml:"},
		"no object":     {"just text\n", "f.yaml:4: is no Kubernetes object: it has no kind"},
		"no kind":       {"a: b\n", "f.yaml:4: is no Kubernetes object: it has no kind"},
		"deep":          {"kind: X\na: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "f.yaml:4: is nested deeper than 100 levels"},
		"bomb":          {bomb.String(), "f.yaml:4: has more than 1000000 values"},
		"circle":        {"kind: X\na: &a [*a]\n", "f.yaml:"},
		"unknown alias": {"kind: X\na: *b\n", "f.yaml:"},
		"long":          {"kind: X\na: " + strings.Repeat("x", MaxDocument), "f.yaml:4: the document that begins here is longer than 16 MiB"},
		"broken Secret": {"kind: Secret\ntype: kubernetes.io/dockerconfigjson\nmetadata: {name: s}\ndata: {.dockerconfigjson: 'pa55 word'}\n", "f.yaml:4: Secret s cannot be read"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in Inputs
			in.Parse("f.yaml", []byte(good+tc.text+"\n---\n"+good))
			err := errors.Join(in.Errors...)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "pa55") {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if n := len(in.Findings); n != 2 {
				t.Errorf("%d findings, want those of the other two documents", n)
			}
		})
	}
}

// TestWhatPodsSay: secrets, accounts and nodes are those of the pod around the image.
func TestWhatPodsSay(t *testing.T) {
	t.Parallel()
	var in Inputs
	in.Parse("f.yaml", []byte(`# Source: shop/templates/web.yaml
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: retail}
spec:
  template:
    spec:
      serviceAccountName: puller
      imagePullSecrets: [{name: one}, {name: two}]
      nodeSelector: {kubernetes.io/arch: arm64}
      tolerations: [{key: edge, operator: Exists}]
      os: {name: linux}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms: [{matchExpressions: [{key: site, operator: In, values: [lisbon]}]}]
      containers:
      - {image: a}
      - {image: local, imagePullPolicy: Never}
---
kind: Secret
type: kubernetes.io/dockerconfigjson
metadata: {name: one, namespace: retail}
stringData: {.dockerconfigjson: '{"auths":{}}'}
---
kind: Secret
type: Opaque
metadata: {name: other}
---
kind: ServiceAccount
metadata: {name: puller, namespace: retail}
imagePullSecrets: [{name: one}]
---
apiVersion: registrycheck.edgecache.dev/v1
kind: ImageLock
images: [{reference: a}]
`))
	if len(in.Errors) > 0 || len(in.Findings) != 1 {
		t.Fatalf("%v, %d findings", in.Errors, len(in.Findings))
	}
	got, err := yaml.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pod.golden.yaml", got)
	if got, want := in.Findings[0].Source.String(), "f.yaml:18 DaemonSet retail/web spec.template.spec.containers[0].image"; got != want {
		t.Errorf("source %q, want %q", got, want)
	}
	if len(in.Notes) != 1 || !strings.Contains(in.Notes[0].String(), "local is not checked") {
		t.Errorf("notes: %v", in.Notes)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), UPDATE_GOLDEN=1 writes it anew:\n%s", path, diff)
	}
}

func TestObject(t *testing.T) {
	t.Parallel()
	var in Inputs
	err := in.Object(map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "web", "namespace": "retail"},
		"spec": map[string]any{"replicas": int64(3), "template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"image": "a"}}}}},
	})
	if err != nil || len(in.Findings) != 1 {
		t.Fatalf("%v, %d findings", err, len(in.Findings))
	}
	if got, want := in.Findings[0].Source.String(), "Deployment retail/web spec.template.spec.containers[0].image"; got != want {
		t.Errorf("source %q, want %q", got, want)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pod := func(image string) string { return "kind: Pod\nspec: {containers: [{image: " + image + "}]}\n" }
	for name, text := range map[string]string{
		"a.yaml": pod("a"), "sub/b.yml": pod("b"), "sub/c.json": `{"kind":"Pod","spec":{"containers":[{"image":"c"}]}}`,
		"sub/readme.md": "no", ".git/d.yaml": pod("d"), ".e.yaml": pod("e"), "kustomize/kustomization.yaml": "resources: []\n",
		"chart/Chart.yaml": "name: x\n", "chart/templates/f.yaml": "{{ template }}", "empty/x.txt": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var in Inputs
	for _, path := range []string{"", "empty", "none.yaml", "chart"} {
		in.Read(filepath.Join(dir, path), nil)
	}
	in.Read(Stdin, strings.NewReader(pod("stdin")))
	var images []string
	for _, f := range in.Findings {
		images = append(images, f.Image)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "stdin"}, images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	var wrong []string
	for _, err := range in.Errors {
		wrong = append(wrong, strings.ReplaceAll(err.Error(), dir, "DIR"))
	}
	chart := "DIR/chart: is a Helm chart, whose templates are not manifests yet: helm template DIR/chart | registrycheck -f -"
	want := []string{
		chart, "DIR/empty: has no manifest in it: files that end in .yaml, .yml or .json are read",
		"DIR/none.yaml: no such file or directory", chart,
	}
	if diff := cmp.Diff(want, wrong); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if len(in.Notes) != 1 || !strings.Contains(in.Notes[0].Message, "kustomize build") {
		t.Errorf("notes: %v", in.Notes)
	}
}

// FuzzParse: whatever is read, nothing breaks, each finding says where it is and each
// error has a line of the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"kind: Pod\nspec: {containers: [{image: a}]}\n---\nkind: List\nitems: [{kind: X}]\n", "a: &a [*a]\n", "--- x\n", "[{}]", "kind: Secret\ntype: kubernetes.io/dockercfg\n",
		"kind: ImageCache\nspec: {cacheSpec: [{images: [a], nodeSelector: {a: b}}]}\n", "x: {<<: [&b {<<: *b}]}\nkind: Y\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in Inputs
		in.Parse("f", data)
		lines := strings.Count(string(data), "\n") + 1
		for _, found := range in.Findings {
			if s := found.Source; found.Image == "" || s.Field == "" || s.Line < 1 || s.Line > lines {
				t.Errorf("finding %+v of %d lines", found, lines)
			}
		}
		for _, err := range in.Errors {
			if e, ok := errors.AsType[*InputError](err); !ok || e.Line < 1 || e.Line > lines+1 {
				t.Errorf("error %v of %d lines", err, lines)
			}
		}
	})
}

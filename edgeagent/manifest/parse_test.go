package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const header = "apiVersion: edgecache.dev/v1alpha1\nkind: ImageCache\n"

func TestParse(t *testing.T) {
	t.Parallel()
	pos := header + "metadata: {name: pos, namespace: retail}\nspec: {cacheSpec: [{images: [r.example/pos:v1]}]}\n"
	with := func(fields string) string {
		return header + "metadata: {name: pos}\nspec: {cacheSpec: [{images: [app]}], " + fields + "}\n"
	}
	tests := map[string]struct {
		text string
		want []string // names of ImageCaches, or parts of the error after "error"
	}{
		"one":                {pos, []string{"retail/pos"}},
		"no namespace":       {with("priority: 1"), []string{"default/pos"}},
		"JSON":               {`{"apiVersion":"edgecache.dev/v1alpha1","kind":"ImageCache","metadata":{"name":"j"},"spec":{"cacheSpec":[{"images":["app"]}]}}`, []string{"default/j"}},
		"several, and a gap": {"# site 7\n---\n" + pos + "---\n\n---\n" + with("pin: Never"), []string{"retail/pos", "default/pos"}},
		"nothing":            {"# later\n", []string{"error", "f.yaml has no ImageCache in it: remove the file"}},
		"not YAML":           {pos + "  x: [\n", []string{"error", "f.yaml, document 1: not YAML or JSON"}},
		"another kind":       {"apiVersion: v1\nkind: Pod\n", []string{"error", `document 1: apiVersion "v1" and kind "Pod" are not read here: write apiVersion: edgecache.dev/v1alpha1 and kind: ImageCache`}},
		"kube-fledged's own": {strings.Replace(pos, "edgecache.dev/v1alpha1", "kubefledged.io/v1alpha3", 1), []string{"error", `"kubefledged.io/v1alpha3"`}},
		"no name":            {header + "spec: {cacheSpec: [{images: [app]}]}\n", []string{"error", "metadata.name: Required value"}},
		"an unknown field":   {with("imagePullSecret: s"), []string{"error", `ImageCache default/pos: unknown field "spec.imagePullSecret"`}},
		"a field twice":      {with("pin: Never, pin: Always"), []string{"error", `"pin"`}},
		"a wrong type":       {with("keepPrevious: many"), []string{"error", "spec.keepPrevious"}},
		"a wrong image":      {strings.Replace(pos, "r.example/pos:v1", "https://r.example/pos", 1), []string{"error", `f.yaml, document 1: ImageCache retail/pos: spec.cacheSpec[0].images[0]: Invalid value: "https://r.example/pos": an image reference has no scheme`}},
		"a short interval":   {with("refreshInterval: 9s"), []string{"error", `spec.refreshInterval: Invalid value: "9s"`, "at least 10s"}},
		"no unit":            {with(`refreshInterval: "15"`), []string{"error", `spec.refreshInterval: Invalid value: "15": write it as a duration`}},
		"the same name":      {pos + "---\n" + pos, []string{"error", "f.yaml, document 2: ImageCache retail/pos stands in this file twice"}},
		"all mistakes":       {with("state: Paused") + "---\n" + with("priority: 2000"), []string{"error", "document 1", `"Paused"`, "document 2", "spec.priority: Invalid value: 2000: must be from -1000 to 1000"}},
		"an affinity":        {header + "metadata: {name: a}\nspec: {cacheSpec: [{images: [app], nodeAffinity: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Near}]}]}}]}\n", []string{"error", "spec.cacheSpec[0].nodeAffinity"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caches, err := Parse("f.yaml", []byte(tc.text))
			if tc.want[0] != "error" {
				var got []string
				for _, ic := range caches {
					got = append(got, ic.Namespace+"/"+ic.Name)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
					t.Errorf("error %v (-want +got):\n%s", err, diff)
				}
				return
			}
			for _, part := range tc.want[1:] {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error: %v\nwant %q", err, part)
				}
			}
		})
	}
}

// FuzzParse: what is read of any bytes can be compiled, and what cannot be read says so.
func FuzzParse(f *testing.F) {
	f.Add([]byte(header + "metadata: {name: pos}\nspec: {cacheSpec: [{images: [app]}], refreshInterval: 10s, rollout: {maxConcurrentNodes: 3}}\n"))
	f.Add([]byte("---\n- 1\n---\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		caches, err := Parse("f", data)
		if err == nil && len(caches) == 0 {
			t.Error("neither an ImageCache nor an error")
		}
		for _, ic := range caches {
			if err == nil && (ic.Name == "" || len(ic.Spec.CacheSpec) == 0) {
				t.Error(fmt.Errorf("read %+v", ic))
			}
		}
	})
}

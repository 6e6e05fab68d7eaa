package limits

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

func TestRefusal(t *testing.T) {
	t.Parallel()
	limits := Limits{
		{Namespaces: []string{"kube-system"}},
		{Namespaces: []string{"team-*", "retail"}, Registries: []string{"registry.example", "*.corp.example:5000"}, MaxPriority: new(int32(10))},
		{Namespaces: []string{"*"}, MaxPriority: new(int32(0))},
	}
	tests := map[string]struct {
		namespace string
		priority  int32
		images    []v1alpha1.ImageReference
		want      string // part of the refusal, "" for none
	}{
		"allowed":                    {"retail", 10, []v1alpha1.ImageReference{"registry.example/pos:v1", "eu.corp.example:5000/x"}, ""},
		"another registry":           {"retail", 0, []v1alpha1.ImageReference{"registry.example/pos:v1", "nginx"}, "spec.cacheSpec[0].images[1] is from docker.io: images may come from registry.example, *.corp.example:5000 only (limits[1]"},
		"too high a priority":        {"team-a", 11, nil, "spec.priority is 11: it may be 10 at most (limits[1]"},
		"the first entry counts":     {"kube-system", 1000, []v1alpha1.ImageReference{"nginx"}, ""},
		"all others":                 {"default", 1, nil, "it may be 0 at most (limits[2] of the controller's settings, for namespace default)"},
		"no limit of registries":     {"default", 0, []v1alpha1.ImageReference{"nginx"}, ""},
		"what does not parse passes": {"retail", 0, []v1alpha1.ImageReference{"::"}, ""}, // and is told by its own condition
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ic := &v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{Namespace: tc.namespace}}
			ic.Spec.Priority = tc.priority
			ic.Spec.CacheSpec = []v1alpha1.CacheSpecImages{{Images: tc.images}}
			if got := limits.Refusal(ic); !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
				t.Errorf("refusal %q, want %q", got, tc.want)
			}
		})
	}
	weighed := Limits{{Namespaces: []string{"*"}, MaxBytes: "1Gi"}}
	byNode := &v1alpha1.ImageCache{Spec: v1alpha1.ImageCacheSpec{Resolve: v1alpha1.ResolveNode}}
	if got := weighed.Refusal(byNode); !strings.Contains(got, "spec.resolve is Node: what nodes find cannot be weighed, and the images of this namespace may have 1Gi") {
		t.Errorf("what cannot be weighed: %q", got)
	}
	if got := (Limits)(nil).Refusal(&v1alpha1.ImageCache{}); got != "" {
		t.Errorf("without limits: %q", got)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]Limit{
		"limits[0].namespaces: Required":                                             {},
		`limits[0].namespaces[0]: Invalid value: "["`:                                {Namespaces: []string{"["}},
		`limits[0].registries[0]: Invalid value: "https://r.example"`:                {Namespaces: []string{"*"}, Registries: []string{"https://r.example"}},
		"limits[0].maxPriority: Invalid value: 1001: must be from -1000 to 1000":     {Namespaces: []string{"*"}, MaxPriority: new(int32(1001))},
		`limits[0].maxBytes: Invalid value: "20GB": must be a whole number of bytes`: {Namespaces: []string{"*"}, MaxBytes: "20GB"},
		`limits[0].maxBytes: Invalid value: "-1Gi"`:                                  {Namespaces: []string{"*"}, MaxBytes: "-1Gi"},
		`limits[0].maxBytes: Invalid value: "0"`:                                     {Namespaces: []string{"*"}, MaxBytes: "0"},
		`limits[0].maxBytes: Invalid value: "500m": must be a whole number of bytes`: {Namespaces: []string{"*"}, MaxBytes: "500m"},
	} {
		err := Limits{l}.Validate().ToAggregate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", l, err, want)
		}
	}
	for most, want := range map[string]int64{"": 0, "20Gi": 20 << 30, "1.5Gi": 3 << 29, "500M": 500_000_000, "1073741824": 1 << 30, "8e3": 8000} {
		l := Limits{{Namespaces: []string{"*"}, MaxBytes: most}}
		if n, err := l[0].bytes(); n != want || err != nil || len(l.Validate()) > 0 {
			t.Errorf("maxBytes %q: %d, %v, %v, want %d", most, n, err, l.Validate(), want)
		}
	}
	if errs := make(Limits, maxLimits+1).Validate(); len(errs) != 1 {
		t.Errorf("%d errors for too many limits, want one", len(errs))
	}
}

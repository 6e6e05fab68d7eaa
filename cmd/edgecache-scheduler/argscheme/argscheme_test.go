package argscheme

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"

	"edgecache.dev/scheduler-plugin/args"
)

// decode reads a KubeSchedulerConfiguration as kube-scheduler does.
func decode(t *testing.T, pluginArgs string) (*config.KubeSchedulerConfiguration, error) {
	t.Helper()
	text := `{"apiVersion":"kubescheduler.config.k8s.io/v1","kind":"KubeSchedulerConfiguration",
		"profiles":[{"pluginConfig":[{"name":"ImageCacheLocality","args":` + pluginArgs + `}]}]}`
	obj, err := runtime.Decode(scheme.Codecs.UniversalDecoder(), []byte(text))
	if err != nil {
		return nil, err
	}
	cfg, ok := obj.(*config.KubeSchedulerConfiguration)
	if !ok {
		t.Fatalf("decoded a %T", obj)
	}
	return cfg, nil
}

func TestArgsAreTypedAndDefaulted(t *testing.T) {
	t.Parallel()
	cfg, err := decode(t, `{"offlinePolicy":"Enforce"}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cfg.Profiles[0].PluginConfig {
		if c.Name != "ImageCacheLocality" {
			continue
		}
		a, ok := c.Args.(*args.ImageCacheLocalityArgs)
		if !ok {
			t.Fatalf("arguments are %T", c.Args)
		}
		if a.OfflinePolicy != args.OfflineEnforce || a.MaxReadyTime.Duration != args.DefaultMaxReadyTime {
			t.Errorf("got %+v, want Enforce and defaults", a)
		}
		return
	}
	t.Fatal("the plugin's configuration is gone")
}

func TestArgsAreStrict(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"offlinePolicies":"Enforce"}`: `unknown field "offlinePolicies"`,
		`{"fadeFromPercent":"80"}`:      "cannot unmarshal string into Go struct field",
		`{"maxReadyTime":"ten"}`:        `invalid duration "ten"`,
	} {
		if _, err := decode(t, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

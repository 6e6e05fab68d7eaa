package sandbox

import (
	"testing"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"registry.k8s.io/pause:3.10.2": "registry.k8s.io/pause:3.10.2",
		"rancher/mirrored-pause:3.6":   "docker.io/rancher/mirrored-pause:3.6",
		"":                             "",
		"localhost/No Image":           "",
		"sha256:c75bebcdd211f41b3a460c7bf82970ed6c75acaab9cd4c9a4e125b03ca113798": "",
	} {
		if got := Parse(name).String(); got != want {
			t.Errorf("Parse(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestConfigured(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		info map[string]string
		want string
	}{
		"containerd 1.7": {map[string]string{"config": `{"containerd":{},"sandboxImage":"registry.k8s.io/pause:3.8","maxContainerLogSize":16384}`}, "registry.k8s.io/pause:3.8"},
		"containerd 2":   {map[string]string{"config": `{"containerd":{},"maxContainerLogSize":16384}`, "golang": `"go1.26"`}, ""},
		"CRI-O":          {map[string]string{"config": `{"sandboxImage":"registry.k8s.io/pause:3.10"}`}, "registry.k8s.io/pause:3.10"},
		"cri-dockerd":    {nil, ""},
		"no JSON":        {map[string]string{"config": `sandboxImage`}, ""},
		"another type":   {map[string]string{"config": `{"sandboxImage":7}`}, ""},
	}
	for name, tc := range tests {
		if got := configured(tc.info).String(); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestUsedInfo(t *testing.T) {
	t.Parallel()
	for info, want := range map[string]string{
		`{"pid":7,"image":"registry.k8s.io/pause:3.10","runtimeSpec":{}}`: "registry.k8s.io/pause:3.10",
		`{"pid":7}`: "",
		``:          "",
		`[]`:        "",
	} {
		if got := used(map[string]string{"info": info}); got != want {
			t.Errorf("used(%s) = %q, want %q", info, got, want)
		}
	}
	if got := used(nil); got != "" {
		t.Errorf("used(nil) = %q", got)
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	all := []*api.PodSandbox{{Id: "a", CreatedAt: 5}, {Id: "b", CreatedAt: 9}, {Id: "c", CreatedAt: 7}}
	if got := newest(all); got.GetId() != "b" {
		t.Errorf("newest = %v", got)
	}
	if got := newest(nil); got != nil {
		t.Errorf("newest of none = %v", got)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	var m Memory
	steps := []struct {
		what string
		do   func()
		want string
	}{
		{"nothing is known", func() {}, ""},
		{"a sandbox tells", func() { m.Used("r.io/pause:2", at(2)) }, "r.io/pause:2"},
		{"an older one says nothing", func() { m.Used("r.io/pause:1", at(1)) }, "r.io/pause:2"},
		{"nor does one made of an ID", func() { m.Used("sha256:abc", at(3)) }, "r.io/pause:2"},
		{"a newer one does", func() { m.Used("r.io/pause:4", at(4)) }, "r.io/pause:4"},
		{"the configuration counts more", func() { m.Configured(Parse("r.io/pause:5")) }, "r.io/pause:5"},
		{"until it tells no more", func() { m.Configured(Parse("")); m.Used("r.io/pause:4", at(4)) }, "r.io/pause:4"},
	}
	for _, s := range steps {
		s.do()
		if got := m.Image().String(); got != s.want {
			t.Errorf("%s: %q, want %q", s.what, got, s.want)
		}
	}
}

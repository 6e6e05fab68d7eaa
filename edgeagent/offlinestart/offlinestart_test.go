package offlinestart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
)

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// kubelet reads a configuration; "absent" is a file that is not there.
func kubelet(t *testing.T, config string) Kubelet {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if config != "absent" {
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ReadKubelet(path)
}

func TestAssess(t *testing.T) {
	t.Parallel()
	const kind = "kind: KubeletConfiguration\n"
	app, db, pause := ref(t, "r.io/shop/app:v1"), ref(t, "r.io/db:v1"), ref(t, "r.io/pause:3")
	tests := map[string]struct {
		config string
		change func(*Input)
		status metav1.ConditionStatus
		reason string
		says   []string
	}{
		"as it comes":            {kind, nil, metav1.ConditionFalse, v1alpha1.ReasonNoRiskFound, nil},
		"an empty file":          {"", nil, metav1.ConditionFalse, v1alpha1.ReasonNoRiskFound, nil},
		"the default, spelt out": {kind + "imagePullCredentialsVerificationPolicy: NeverVerifyPreloadedImages", nil, metav1.ConditionFalse, v1alpha1.ReasonNoRiskFound, nil},
		"no verification at all": {kind + "imagePullCredentialsVerificationPolicy: NeverVerify", nil, metav1.ConditionFalse, v1alpha1.ReasonNoRiskFound, nil},
		"always verified": {kind + "imagePullCredentialsVerificationPolicy: AlwaysVerify", nil, metav1.ConditionTrue, v1alpha1.ReasonCredentialsVerified,
			[]string{"r.io/db:v1, r.io/shop/app:v1: ", "AlwaysVerify in /", "NeverVerifyPreloadedImages"}},
		"some are listed": {kind + "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: [r.io/shop/*]",
			nil, metav1.ConditionTrue, v1alpha1.ReasonCredentialsVerified, []string{"r.io/db:v1: the kubelet asks"}},
		"all are listed": {kind + "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: [r.io/shop/*, r.io/db]",
			nil, metav1.ConditionFalse, v1alpha1.ReasonNoRiskFound, nil},
		"no file":        {"absent", nil, metav1.ConditionUnknown, v1alpha1.ReasonKubeletConfigUnread, []string{"no such file", "kubeletConfig"}},
		"no such format": {"{{", nil, metav1.ConditionUnknown, v1alpha1.ReasonKubeletConfigUnread, nil},
		"lazy": {kind, func(in *Input) { in.Inventory[app] = runtime.Held{Lazy: true} }, metav1.ConditionTrue, v1alpha1.ReasonLazyContent,
			[]string{"r.io/shop/app:v1: a lazy snapshotter", "crictl rmi"}},
		"lazy, and nobody's": {kind, func(in *Input) { in.Inventory[ref(t, "r.io/other")] = runtime.Held{Lazy: true} }, metav1.ConditionFalse, v1alpha1.ReasonNoRiskFound, nil},
		"no pause image": {"absent", func(in *Input) { delete(in.Inventory, pause) }, metav1.ConditionTrue, v1alpha1.ReasonSandboxImageMissing,
			[]string{"r.io/pause:3, which every pod needs"}},
		"half a pause image": {kind, func(in *Input) { in.Inventory[pause] = runtime.Held{} }, metav1.ConditionTrue, v1alpha1.ReasonSandboxImageMissing, nil},
		"which it is is not known": {kind, func(in *Input) {
			delete(in.Inventory, pause)
			in.Runtime.SandboxImage = imageref.Reference{}
		}, metav1.ConditionFalse, v1alpha1.ReasonNoRiskFound, nil},
		"not synced": {kind, func(in *Input) { in.Runtime.Unsynced = true }, metav1.ConditionTrue, v1alpha1.ReasonPullsNotSynced,
			[]string{"cri-o does not sync", "/var/lib/containers"}},
		"several": {kind + "imagePullCredentialsVerificationPolicy: AlwaysVerify", func(in *Input) {
			in.Runtime.Unsynced = true
			delete(in.Inventory, pause)
		}, metav1.ConditionTrue, v1alpha1.ReasonSandboxImageMissing, []string{"every pod needs", "AlwaysVerify", "power cut"}},
	}
	for name, tc := range tests {
		in := Input{
			Kubelet: kubelet(t, tc.config), Wished: []imageref.Reference{app, db},
			Runtime:   runtime.Info{Name: "cri-o", Root: "/var/lib/containers", SandboxImage: pause},
			Inventory: runtime.Inventory{app: {Complete: true}, db: {Complete: true}, pause: {Complete: true}},
		}
		if tc.change != nil {
			tc.change(&in)
		}
		got := Assess(in)
		if got.Type != v1alpha1.NodeConditionOfflineStartAtRisk || got.Status != tc.status || got.Reason != tc.reason || got.Message == "" {
			t.Errorf("%s: %+v, want %s %s", name, got, tc.status, tc.reason)
		}
		for _, s := range tc.says {
			if !strings.Contains(got.Message, s) {
				t.Errorf("%s: message %q does not say %q", name, got.Message, s)
			}
		}
	}
}

// TestSome: a message with a thousand images stays one line.
func TestSome(t *testing.T) {
	t.Parallel()
	if got := some([]string{"a", "b", "c", "d", "e"}); got != "a, b, c and 2 more" {
		t.Errorf("got %q", got)
	}
}

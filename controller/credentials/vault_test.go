package credentials

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/wish"
)

func secret(name, version, registry, password string) *corev1.Secret {
	config := fmt.Sprintf(`{"auths":{%q:{"username":"u","password":%q}}}`, registry, password)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: version},
		Type:       corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(config)},
	}
}

func name(s string) cache.ObjectName { return cache.ObjectName{Namespace: "ns", Name: s} }

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVault(t *testing.T) {
	t.Parallel()
	v := NewVault()
	app := ref(t, "r.io/app:v1")
	if found, known := v.For("ns/none", app); !known || len(found) > 0 {
		t.Error("who names no Secret has something, or does not know")
	}
	if got := v.Want("ns/a", []cache.ObjectName{name("one"), name("two")}); len(got) != 2 {
		t.Errorf("to be read: %v, want both", got)
	}
	if got := v.Want("ns/b", []cache.ObjectName{name("one")}); len(got) != 0 {
		t.Errorf("to be read again: %v", got)
	}
	if owners := v.Put(name("one"), secret("one", "1", "r.io", "p")); !slices.Equal(owners, []wish.Owner{"ns/a", "ns/b"}) {
		t.Errorf("concerned: %v", owners)
	}
	if _, known := v.For("ns/a", app); known {
		t.Error("known although a Secret was not read")
	}
	v.Put(name("two"), nil) // does not exist
	found, known := v.For("ns/a", app)
	if !known || len(found) != 1 || found[0].Match != "r.io" || found[0].Version != "1" || found[0].Auth().Password != "p" {
		t.Errorf("found %v, known %v", found, known)
	}
	other, _ := v.For("ns/b", app)
	if other[0].ID != found[0].ID {
		t.Error("the same credential has two IDs")
	}
	if got, _ := v.For("ns/a", ref(t, "other.io/app:v1")); len(got) > 0 {
		t.Errorf("another registry's image: %v", got)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if printed := fmt.Sprintf(verb, found[0]); strings.Contains(printed, `"p"`) || strings.Contains(printed, "Password") {
			t.Errorf("%s prints %s", verb, printed)
		}
	}
}

func TestVaultNoticesChanges(t *testing.T) {
	t.Parallel()
	v := NewVault()
	v.Want("ns/a", []cache.ObjectName{name("one")})
	v.Put(name("one"), secret("one", "1", "r.io", "p"))
	before := v.Versions("ns/a")
	if owners := v.Put(name("one"), secret("one", "1", "r.io", "p")); owners != nil || v.Versions("ns/a") != before {
		t.Errorf("nothing changed, and %v are concerned", owners)
	}
	if owners := v.Put(name("one"), secret("one", "2", "r.io", "q")); len(owners) != 1 || v.Versions("ns/a") == before {
		t.Errorf("concerned: %v, versions %s", owners, v.Versions("ns/a"))
	}
	v.Want("ns/a", nil)
	if v.Wanted(name("one")) || v.Put(name("one"), secret("one", "3", "r.io", "r")) != nil {
		t.Error("a Secret that nobody names is kept")
	}
}

// drawer gives one Secret, or an error.
type drawer struct {
	secret *corev1.Secret
	err    error
}

func (d drawer) Secret(context.Context, string, string) (*corev1.Secret, error) {
	return d.secret, d.err
}

func TestReader(t *testing.T) {
	t.Parallel()
	v := NewVault()
	var changed []wish.Owner
	r := Reader{Vault: v, Secrets: drawer{secret: secret("one", "1", "r.io", "p")}, Changed: func(o wish.Owner) { changed = append(changed, o) }}
	if again, err := r.Sync(t.Context(), name("one")); again != 0 || err != nil {
		t.Errorf("a Secret that nobody names: again in %s, %v", again, err)
	}
	v.Want("ns/a", []cache.ObjectName{name("one")})
	again, err := r.Sync(t.Context(), name("one"))
	if err != nil || again < 5*time.Minute || again > 10*time.Minute || len(changed) != 1 {
		t.Errorf("again in %s, %v, %v told", again, err, changed)
	}
	r.Secrets = drawer{err: errors.New("forbidden")}
	if _, err := r.Sync(t.Context(), name("one")); err == nil {
		t.Error("a Secret that cannot be read is not tried again")
	}
	if found, known := v.For("ns/a", ref(t, "r.io/app")); !known || len(found) != 1 {
		t.Error("what was read is lost by an error")
	}
	r.Secrets = drawer{err: apierrors.NewNotFound(schema.GroupResource{}, "one")}
	if _, err := r.Sync(t.Context(), name("one")); err != nil {
		t.Error(err)
	}
	if found, known := v.For("ns/a", ref(t, "r.io/app")); !known || len(found) != 0 {
		t.Error("a Secret that is gone still holds")
	}
}

func TestEnforces(t *testing.T) {
	t.Parallel()
	for what, tc := range map[string]struct {
		edit func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding)
		want bool
	}{
		"in place": {func(*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding) {}, true},
		"only warns": {func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn}
		}, false},
		"of another policy": {func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.PolicyName = "x"
		}, false},
		"fails open": {func(p *admissionv1.ValidatingAdmissionPolicy, _ *admissionv1.ValidatingAdmissionPolicyBinding) {
			p.Spec.FailurePolicy = new(admissionv1.Ignore)
		}, false},
		"for some resources": {func(_ *admissionv1.ValidatingAdmissionPolicy, b *admissionv1.ValidatingAdmissionPolicyBinding) {
			b.Spec.MatchResources = &admissionv1.MatchResources{}
		}, false},
	} {
		policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: policyName}}
		binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
		binding.Spec.PolicyName, binding.Spec.ValidationActions = policyName, []admissionv1.ValidationAction{admissionv1.Deny}
		tc.edit(policy, binding)
		if got := enforces(policy, binding); got != tc.want {
			t.Errorf("%s: enforces %v, want %v", what, got, tc.want)
		}
	}
}

package keyring_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/keyring"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/seal"
)

const uid = "node-uid"

func newKey(t *testing.T) *seal.Key {
	t.Helper()
	k, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parse(t *testing.T, s string) imageref.Reference {
	t.Helper()
	ref, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// credential seals a login for a match.
func credential(t *testing.T, k *seal.Key, id, match string, auth seal.Auth) v1alpha1.SealedCredential {
	t.Helper()
	b, err := seal.Seal(k.Recipient(), seal.Payload{Match: match, NodeUID: uid, Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	return v1alpha1.SealedCredential{ID: id, Match: match, KeyID: k.ID(), Sealed: b}
}

func user(name string) seal.Auth { return seal.Auth{Username: name, Password: "p4ssword"} }

// wish is one image with all of the credentials, in order.
func wish(image string, credentials ...v1alpha1.SealedCredential) store.Desired {
	img := v1alpha1.NodeImage{Name: image}
	for _, c := range credentials {
		img.CredentialIDs = append(img.CredentialIDs, c.ID)
	}
	return store.Desired{NodeUID: uid, Spec: v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.NodeImage{img}, Credentials: credentials}}
}

func users(logins []fetch.Login) (names []string) {
	for _, l := range logins {
		names = append(names, l.User+l.Token)
	}
	return names
}

func TestFor(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	tests := map[string]struct {
		image, host string
		matches     []string
		want        []string // matches of what is given
	}{
		"the registry":                 {"r.example/team/app:v1", "r.example", []string{"r.example"}, []string{"r.example"}},
		"in the order given":           {"r.example/team/app:v1", "r.example", []string{"r.example", "r.example/team", "*.example"}, []string{"r.example", "r.example/team", "*.example"}},
		"a mirror":                     {"r.example/app:v1", "mirror.example", []string{"r.example"}, nil},
		"a mirror that a star covers":  {"r.example/app:v1", "mirror.example", []string{"*.example"}, nil},
		"another port":                 {"r.example/app:v1", "r.example:5000", []string{"r.example"}, nil},
		"an image of somebody else":    {"evil.example/app:v1", "evil.example", []string{"r.example"}, nil},
		"another path":                 {"r.example/other/app:v1", "r.example", []string{"r.example/team"}, nil},
		"Docker Hub":                   {"nginx:1", "docker.io", []string{"docker.io"}, []string{"docker.io"}},
		"Docker Hub by its API":        {"nginx:1", "registry-1.docker.io", []string{"index.docker.io"}, []string{"index.docker.io"}},
		"a mirror of Docker Hub":       {"nginx:1", "mirror.gcr.io", []string{"docker.io"}, nil},
		"Docker Hub's for another":     {"r.example/app:v1", "r.example", []string{"index.docker.io"}, nil},
		"its API for another registry": {"r.example/app:v1", "registry-1.docker.io", []string{"r.example"}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all []v1alpha1.SealedCredential
			for i, m := range tc.matches {
				all = append(all, credential(t, k, strconv.Itoa(i), m, user(m)))
			}
			r, ref := keyring.New(k), parse(t, tc.image)
			r.Hear(wish(ref.String(), all...))
			if diff := cmp.Diff(tc.want, users(r.For(ref, tc.host))); diff != "" {
				t.Errorf("logins (-want +got):\n%s", diff)
			}
		})
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	k, ref := newKey(t), parse(t, "r.example/app:v1")
	encoded := base64.StdEncoding.EncodeToString([]byte("u:p:q"))
	for name, tc := range map[string]struct {
		auth seal.Auth
		want fetch.Login
	}{
		"password":       {seal.Auth{Username: "u", Password: "p"}, fetch.Login{User: "u", Secret: "p"}},
		"auth wins":      {seal.Auth{Username: "x", Password: "y", Auth: encoded}, fetch.Login{User: "u", Secret: "p:q"}},
		"without equals": {seal.Auth{Auth: strings.TrimRight(encoded, "=")}, fetch.Login{User: "u", Secret: "p:q"}},
		"identity token": {seal.Auth{Username: "u", IdentityToken: "i"}, fetch.Login{Secret: "i"}},
		"registry token": {seal.Auth{RegistryToken: "r"}, fetch.Login{Token: "r"}},
	} {
		r := keyring.New(k)
		r.Hear(wish(ref.String(), credential(t, k, "c", "r.example", tc.auth)))
		if got := r.For(ref, "r.example"); len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: %d logins, or another one than %s", name, len(got), name)
		}
	}
	r := keyring.New(k)
	r.Hear(wish(ref.String(), credential(t, k, "c", "r.example", seal.Auth{Auth: "s3cret"})))
	if got := r.For(ref, "r.example"); len(got) != 0 || r.Trouble() == nil || strings.Contains(r.Trouble().Error(), "s3cret") {
		t.Errorf("of a broken auth: %d logins, trouble %v", len(got), r.Trouble())
	}
}

// TestWhatCannotBeOpened: the others are given all the same, and it is said until it is
// replaced.
func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	k, ref := newKey(t), parse(t, "r.example/app:v1")
	good := credential(t, k, "good", "r.example", user("good"))
	spoil := func(id string, change func(*v1alpha1.SealedCredential)) v1alpha1.SealedCredential {
		c := credential(t, k, id, "r.example", user(id))
		change(&c)
		return c
	}
	bad := []v1alpha1.SealedCredential{
		credential(t, newKey(t), "lost-key", "r.example", user("x")),
		spoil("damaged", func(c *v1alpha1.SealedCredential) { c.Sealed[len(c.Sealed)-1] ^= 1 }),
		spoil("moved", func(c *v1alpha1.SealedCredential) { c.Match = "*.example" }),
		credential(t, k, "wide", "other.example", user("x")),
		spoil("empty", func(c *v1alpha1.SealedCredential) { c.Sealed = nil }),
	}
	r := keyring.New(k)
	r.Hear(wish(ref.String(), append(bad, good)...))
	if r.Trouble() != nil {
		t.Errorf("before anything is needed: %v", r.Trouble())
	}
	if diff := cmp.Diff([]string{"good"}, users(r.For(ref, "r.example"))); diff != "" {
		t.Errorf("logins (-want +got):\n%s", diff)
	}
	for _, c := range bad {
		if err := r.Trouble(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", c.ID)) {
			t.Errorf("%s is not said: %v", c.ID, err)
		}
	}
	if strings.Contains(r.Trouble().Error(), "good") || strings.Contains(r.Trouble().Error(), "p4ssword") {
		t.Errorf("trouble says too much: %v", r.Trouble())
	}
	d := wish(ref.String(), append(bad[1:], good)...)
	d.NodeUID = "another"
	r.Hear(d)
	if got := r.For(ref, "r.example"); len(got) != 0 {
		t.Errorf("%d logins for another Node", len(got))
	}
	r.Hear(wish(ref.String(), good))
	if got := users(r.For(ref, "r.example")); r.Trouble() != nil || len(got) != 1 {
		t.Errorf("after all were replaced: %v, %v", got, r.Trouble())
	}
}

func TestHearSaysWhatChanged(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	a, b := credential(t, k, "a", "r.example", user("a")), credential(t, k, "b", "r.example", user("b"))
	again := credential(t, k, "a", "r.example", user("a"))
	r := keyring.New(k)
	steps := []struct {
		what string
		wish store.Desired
		want []string
	}{
		{"the first", wish("r.example/app:v1", a), []string{"r.example/app:v1"}},
		{"the same", wish("r.example/app:v1", a), nil},
		{"sealed again", wish("r.example/app:v1", again), []string{"r.example/app:v1"}},
		{"one more", wish("r.example/app:v1", again, b), []string{"r.example/app:v1"}},
		{"another order", wish("r.example/app:v1", b, again), []string{"r.example/app:v1"}},
		{"another image", wish("r.example/db:v1", b), []string{"r.example/app:v1", "r.example/db:v1"}},
		{"none", store.Desired{}, []string{"r.example/db:v1"}},
		{"none again", store.Desired{}, nil},
	}
	for _, s := range steps {
		if diff := cmp.Diff(s.want, r.Hear(s.wish)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.what, diff)
		}
	}
}

// TestHeldImagesKeepTheirs: those of an object that is gone, until the next one speaks.
func TestHeldImagesKeepTheirs(t *testing.T) {
	t.Parallel()
	k, ref := newKey(t), parse(t, "r.example/app:v1")
	before := wish(ref.String(), credential(t, k, "a", "r.example", user("before")))
	held := store.Desired{Held: before.Spec.Images, HeldCredentials: before.Spec.Credentials, HeldNodeUID: uid}
	r := keyring.New(k)
	r.Hear(held)
	if diff := cmp.Diff([]string{"before"}, users(r.For(ref, "r.example"))); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	after := wish(ref.String())
	after.Held, after.HeldCredentials, after.HeldNodeUID = held.Held, held.HeldCredentials, uid
	r.Hear(after)
	if got := r.For(ref, "r.example"); len(got) != 0 {
		t.Errorf("%d logins of before for an image that has none now", len(got))
	}
}

func TestNothingIsPrinted(t *testing.T) {
	t.Parallel()
	k, ref := newKey(t), parse(t, "r.example/app:v1")
	r := keyring.New(k)
	d := wish(ref.String(), credential(t, k, "a", "r.example", user("us3r")), credential(t, newKey(t), "b", "r.example", user("us3r")))
	r.Hear(d)
	logins := r.For(ref, "r.example")
	var text strings.Builder
	for _, v := range []any{r, r.Key(), logins, r.Trouble(), d} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		text.Write(b)
	}
	for _, s := range []string{"us3r", "p4ssword", k.Text(), "SECRET-KEY"} {
		if strings.Contains(text.String(), s) {
			t.Errorf("%q is printed", s)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	k, ref := newKey(t), parse(t, "r.example/app:v1")
	a, b := credential(t, k, "a", "r.example", user("a")), credential(t, newKey(t), "b", "r.example", user("b"))
	r := keyring.New(k)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				if i%2 == 0 {
					r.Hear(wish(ref.String(), a, b))
				}
				_, _ = r.For(ref, "r.example"), r.Trouble()
			}
		})
	}
	wg.Wait()
}

package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"edgecache.dev/internal/seal"
)

const uid = "5d7ac8a1-7bfa-4a53-8dd4-4f3a12b3c9d8"

func newKey(tb testing.TB) *seal.Key {
	tb.Helper()
	k, err := seal.NewKey()
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func payload() seal.Payload {
	return seal.Payload{Match: "registry.example:5000/team", NodeUID: uid, Auth: seal.Auth{
		Username: "us3r", Password: "p4ssword", Auth: "4uth", IdentityToken: "1dentity", RegistryToken: "r3gistry",
	}}
}

func sealed(tb testing.TB, k *seal.Key, p seal.Payload) []byte {
	tb.Helper()
	b, err := seal.Seal(k.Recipient(), p)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestOpen(t *testing.T) {
	t.Parallel()
	k, want := newKey(t), payload()
	first, second := sealed(t, k, want), sealed(t, k, want)
	if bytes.Equal(first, second) {
		t.Error("sealing twice gives the same bytes")
	}
	again, err := seal.ParseKey("\n" + k.Text() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Open(first, want.Match, uid)
	if err != nil || got != want {
		t.Errorf("opened a payload that is not what was sealed: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	k, p := newKey(t), payload()
	whole := sealed(t, k, p)
	tests := map[string]struct {
		key        *seal.Key
		sealed     []byte
		match, uid string
		want       string
	}{
		"another key":            {newKey(t), whole, p.Match, uid, "another key"},
		"a swapped match":        {k, whole, "evil.example", uid, "another registry"},
		"a match that is wider":  {k, whole, "registry.example:5000", uid, "another registry"},
		"another Node":           {k, whole, p.Match, "6e0c", "another Node"},
		"no Node":                {k, whole, p.Match, "", "another Node"},
		"nothing":                {k, nil, p.Match, uid, "damaged"},
		"no seal":                {k, []byte(`{"match":"a"}`), p.Match, uid, "damaged"},
		"half of it":             {k, whole[:len(whole)/2], p.Match, uid, "damaged"},
		"something after it":     {k, append(bytes.Clone(whole), 0), p.Match, uid, "damaged"},
		"too long":               {k, append(bytes.Clone(whole), make([]byte, seal.MaxSealed)...), p.Match, uid, "at most 12288"},
		"no JSON inside":         {k, encrypted(t, k, "s3cret"), p.Match, uid, "no credential"},
		"another form inside":    {k, encrypted(t, k, `{"match":["s3cret"]}`), p.Match, uid, "no credential"},
		"two documents inside":   {k, encrypted(t, k, `{"match":"s3cret","nodeUID":"u"}{}`), p.Match, uid, "no credential"},
		"no registry or Node":    {k, encrypted(t, k, `{"auth":{"password":"s3cret"}}`), "", "", "no registry or no Node"},
		"a key that is no key":   {&seal.Key{}, whole, p.Match, uid, "no key"},
		"null in place of all":   {k, encrypted(t, k, `null`), "", "", "no registry or no Node"},
		"a Node and no registry": {k, encrypted(t, k, `{"nodeUID":"`+uid+`"}`), "", uid, "no registry or no Node"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.key.Open(tc.sealed, tc.match, tc.uid)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error = %v, want %q", err, tc.want)
			}
			if (got != seal.Payload{}) {
				t.Error("something was opened all the same")
			}
			if errors.Is(err, seal.ErrOtherKey) != (name == "another key") {
				t.Errorf("error = %v: whether it is ErrOtherKey is wrong", err)
			}
		})
	}
}

// encrypted is what somebody sealed who knows the public key and not our form.
func encrypted(tb testing.TB, k *seal.Key, text string) []byte {
	tb.Helper()
	to, err := age.ParseX25519Recipient(k.Recipient())
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// TestEveryByteCounts: no byte of what is sealed may be changed.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	k, p := newKey(t), payload()
	whole := sealed(t, k, p)
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1
		if _, err := k.Open(b, p.Match, uid); err == nil {
			t.Errorf("with byte %d of %d changed it opens", i, len(whole))
		}
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	tests := map[string]struct {
		to   string
		edit func(*seal.Payload)
		want string
	}{
		"no recipient":                       {"", nil, "recipient"},
		"a private key in place of a public": {k.Text(), nil, "recipient"},
		"another kind of recipient":          {"age1pq1" + strings.Repeat("q", 60), nil, "recipient"},
		"no match":                           {k.Recipient(), func(p *seal.Payload) { p.Match = "" }, "no registry or no Node"},
		"no Node":                            {k.Recipient(), func(p *seal.Payload) { p.NodeUID = "" }, "no registry or no Node"},
		"more than fits":                     {k.Recipient(), func(p *seal.Payload) { p.Auth.Password = strings.Repeat("s3cret", 2100) }, "at most 12288 fit"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := payload()
			if tc.edit != nil {
				tc.edit(&p)
			}
			b, err := seal.Seal(tc.to, p)
			if err == nil || b != nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error = %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "SECRET-KEY") {
				t.Errorf("error repeats a secret: %v", err)
			}
		})
	}
}

// TestWhatIsSealedFitsTheField: 16,384 characters of base64.
func TestWhatIsSealedFitsTheField(t *testing.T) {
	t.Parallel()
	k, p := newKey(t), payload()
	p.Auth.Password = strings.Repeat("x", 11_700)
	b := sealed(t, k, p)
	field, err := json.Marshal(b)
	if err != nil || len(field)-len(`""`) > 16384 {
		t.Errorf("the field has %d characters, %v", len(field)-2, err)
	}
	if _, err := k.Open(b, p.Match, uid); err != nil {
		t.Error(err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	a, b := newKey(t), newKey(t)
	if a.ID() == b.ID() || a.ID() == "" || len(a.ID()) > 64 || len(a.Recipient()) > 128 {
		t.Errorf("IDs %q and %q, recipient %q", a.ID(), b.ID(), a.Recipient())
	}
	same, err := seal.ParseKey(a.Text())
	if err != nil || same.ID() != a.ID() || same.Recipient() != a.Recipient() {
		t.Errorf("a key that was read again is another one: %v", err)
	}
	for _, text := range []string{"", "s3cret", a.Recipient(), a.Text()[:40], a.Text() + "\n" + b.Text(), strings.Replace(a.Text(), "1", "2", 1)} {
		if k, err := seal.ParseKey(text); err == nil || k != nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("a wrong key was read, or repeated: %v", err)
		}
	}
}

// TestNothingIsPrinted: with no verb and no encoder, alone or within something else.
func TestNothingIsPrinted(t *testing.T) {
	t.Parallel()
	k, p := newKey(t), payload()
	type inside struct{ Value any }
	type hidden struct{ key *seal.Key }
	secrets := []string{"us3r", "p4ssword", "4uth", "1dentity", "r3gistry", k.Text(), "SECRET-KEY"}
	for _, v := range []any{k, *k, seal.Key{}, p, &p, p.Auth, &p.Auth, []seal.Payload{p}, map[string]seal.Auth{"a": p.Auth}, inside{p}, inside{k}, hidden{k}, &hidden{k}} {
		var out []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
			out = append(out, fmt.Sprintf(verb, v))
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		text := strings.Join(append(out, string(b)), "\n")
		for _, s := range secrets {
			if strings.Contains(text, s) || strings.Contains(text, fmt.Sprintf("%x", s)) {
				t.Errorf("%T prints a secret", v)
			}
		}
	}
	if got := fmt.Sprintf("%v %s", k, p.Auth); !strings.Contains(got, k.ID()) || !strings.Contains(got, "redacted") {
		t.Errorf("printed as %q", got)
	}
}

// FuzzOpen: whatever stands in the field, opening ends with what was sealed for this match
// and Node, or with a short error.
func FuzzOpen(f *testing.F) {
	k, p := newKey(f), payload()
	whole := sealed(f, k, p)
	f.Add(whole, p.Match, uid)
	f.Add(whole[:len(whole)-1], p.Match, uid)
	f.Add(encrypted(f, k, `{"match":"m","nodeUID":"u","auth":{}}`), "m", "u")
	f.Add([]byte("age-encryption.org/v1\n-> X25519 \n"), "m", "u")
	f.Add([]byte(nil), "", "")
	f.Fuzz(func(t *testing.T, b []byte, match, node string) {
		got, err := k.Open(b, match, node)
		switch {
		case err != nil && (len(err.Error()) > 200 || got != seal.Payload{}):
			t.Errorf("error of %d bytes", len(err.Error()))
		case err == nil && cmp.Diff([]string{match, node}, []string{got.Match, got.NodeUID}) != "":
			t.Error("opened for another match or Node")
		case err == nil && (match == "" || node == "" || len(b) > seal.MaxSealed):
			t.Error("opened what is for nobody, or too long")
		}
	})
}

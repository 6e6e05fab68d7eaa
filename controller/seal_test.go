package controller

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"edgecache.dev/internal/seal"
)

func TestSealed(t *testing.T) {
	t.Parallel()
	key, err := seal.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := sealed(key.Recipient(), "r.io", "uid", authn.AuthConfig{Username: "u", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := key.Open(b, "r.io", "uid")
	if err != nil || got.Auth.Username != "u" || got.Auth.Password != "p" {
		t.Errorf("opened: %v", err)
	}
}

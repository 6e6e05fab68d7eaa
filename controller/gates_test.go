package controller

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/limits"
	"edgecache.dev/controller/rollout"
)

// TestADigestThatWasNotWeighedIsHeldBack: a tag that moves to a larger image reaches no node
// before it is known that it fits.
func TestADigestThatWasNotWeighedIsHeldBack(t *testing.T) {
	t.Parallel()
	l := limits.Limits{{Namespaces: []string{"ns"}, MaxBytes: "10"}}
	sizes := map[digest.Digest]int64{"small": 1, "large": 11}
	accounts := limits.NewAccounts(l, func(d digest.Digest) int64 { return sizes[d] })
	g := gates{&rollout.Gates{View: fleet.NewView(l)}, accounts}
	ref, err := imageref.Parse("app:v1")
	if err != nil {
		t.Fatal(err)
	}
	claim := func(d digest.Digest) {
		accounts.Put(limits.Claim{Owner: "ns/a", Named: map[digest.Digest]bool{d: true}})
		accounts.Decide("ns")
	}
	claim("small")
	if g.Holds("ns/a", "node", "site", ref, "small") || !g.Holds("ns/a", "node", "site", ref, "large") {
		t.Error("what fits is held back, or what was not weighed is not")
	}
	claim("large")
	if !g.Holds("ns/a", "node", "site", ref, "large") {
		t.Error("what does not fit is not held back")
	}
	if g.Holds("free/a", "node", "site", ref, "large") {
		t.Error("a namespace without limit is held back")
	}
	if all := limits.NewAccounts(limits.Limits{{Namespaces: []string{"*"}, MaxBytes: "10"}}, nil); !all.Covers(v1alpha1.OwnerSandboxImage, "large") {
		t.Error("the sandbox image is held back where a limit is for all namespaces")
	}
}

package registrycheck

import "testing"

func TestUnknownRuntime(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Runtime: "rkt"}); err == nil {
		t.Error("a runtime that is not known was taken")
	}
}

// TestBadReference: what cannot be a reference is a result like others.
func TestBadReference(t *testing.T) {
	t.Parallel()
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	got := c.Check(t.Context(), Request{Reference: "https://Registry/App", Source: "deploy.yaml:3"})
	if got.Verdict != NotPullable || got.Reason != ReasonInvalidReference || got.Source != "deploy.yaml:3" || got.Message == "" {
		t.Errorf("Check = %+v", got)
	}
}

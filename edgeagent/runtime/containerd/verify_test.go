package containerd

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"

	"edgecache.dev/edgeagent/runtime"
)

// TestVerifyingWithoutContainerd: that nobody answers is told apart from an image that cannot
// be read.
func TestVerifyingWithoutContainerd(t *testing.T) {
	t.Parallel()
	d, err := New(Options{Address: filepath.Join(t.TempDir(), "containerd.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := d.Verify(ctx, digest.FromString("x"), rate.NewLimiter(rate.Inf, 0)); !errors.Is(err, runtime.ErrAway) {
		t.Errorf("verifying with nobody there: %v, want %v", err, runtime.ErrAway)
	}
}

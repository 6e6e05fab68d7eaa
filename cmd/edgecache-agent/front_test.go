package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/pause"
)

// TestMain has this program be the agent where a test starts it as one, and check a store where
// the agent starts itself for that.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "store" && os.Args[2] == "check" {
		os.Exit(store.ExitCode(store.CheckFile(os.Args[3])))
	}
	if len(os.Args) > 1 && os.Args[1] == "run" {
		code := 1
		if err := newCommand(&code).Execute(); err == nil {
			code = 0
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// TestAnswersWhileItWaits: before there is any container runtime the agent tells what it
// remembers, is well, and not ready. A probe that nobody answers would have it killed.
func TestAnswersWhileItWaits(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.NodeName, c.StateDir, c.ServeAddress, c.Manifest = "node-1", shortDir(t), "", t.TempDir()
	wished(t, c, "r.io/app:v1")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	root, ended := shortDir(t), make(chan error, 1)
	go func() { ended <- run(ctx, c, root) }()
	s, err := local.Ask(ctx, c.StateDir)
	for began := time.Now(); err != nil && time.Since(began) < 30*time.Second && pause.For(ctx, 50*time.Millisecond); {
		s, err = local.Ask(ctx, c.StateDir)
	}
	switch {
	case err != nil:
		t.Errorf("nobody answers while there is no runtime: %v", err)
	case s.Source != local.FromMemory || len(s.Images) != 1 || s.Node != "node-1" || s.Runtime.Error != errNoRuntime.Error():
		t.Errorf("status without a runtime: %+v", s)
	}
	if err := local.Healthy(ctx, c.StateDir); err != nil {
		t.Errorf("health while there is no runtime: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("told to stop: %v", err)
	}
}

// wished stores that an image is wished.
func wished(t *testing.T, c *config, image string) {
	t.Helper()
	s, _, err := store.Open(t.Context(), c.StateDir, c.NodeName, func(context.Context, string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	wish := store.Desired{UID: "u", Generation: 1, Known: true, Spec: v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.NodeImage{{Name: image, Digest: "sha256:" + strings.Repeat("a", 64)}}}}
	if err := s.Write(store.Change{Desired: &wish}); err != nil {
		t.Fatal(err)
	}
	w, err := newWaiting(s)
	if err != nil {
		t.Fatal(err)
	}
	if f := newFront(w); f.Health() != nil || f.Ready() == nil {
		t.Errorf("while it waits: health %v, ready %v", f.Health(), f.Ready())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

package realtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/protobuf/types"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime/containerd"
)

// container makes the record of a container as CRI makes it.
func (d *daemon) container(t *testing.T, id, image, kind string) {
	t.Helper()
	_, err := d.client.ContainerService().Create(t.Context(), containers.Container{
		ID: id, Image: image, Labels: map[string]string{"io.cri-containerd.kind": kind},
		Runtime: containers.RuntimeInfo{Name: "io.containerd.runc.v2"}, Spec: &types.Any{TypeUrl: "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitHint makes containers until the driver has heard of one: when it began to listen
// nobody says.
func (d *daemon) awaitHint(t *testing.T, driver *containerd.Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	hints := driver.Changes(ctx)
	for i := 0; ; i++ {
		d.container(t, fmt.Sprintf("app%d", i), "r.example/app:v1", "container")
		select {
		case <-hints:
			return
		case <-ctx.Done():
			t.Fatal("no hint of a new container while the sandbox image is not known")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestSandboxImage: containerd 2 does not say which image it makes sandboxes of. The newest
// of them does, as soon as it is there and after restarts of containerd and the agent.
func TestSandboxImage(t *testing.T) {
	t.Parallel()
	d := start(t, options{})
	o := containerd.Options{Address: d.socket(), Source: fetch.NewRegistry(fetch.RegistryOptions{})}
	driver := newContainerd(t, o)
	expect := func(driver *containerd.Driver, want string) {
		t.Helper()
		info, err := driver.Info(t.Context())
		if got := info.SandboxImage.String(); err != nil || got != want {
			t.Errorf("sandbox image %q, %v, want %q", got, err, want)
		}
	}
	expect(driver, "")
	d.awaitHint(t, driver)
	d.container(t, "first", "r.example/pause:1", "sandbox")
	expect(driver, "r.example/pause:1")
	d.container(t, "second", "r.example/pause:2", "sandbox")
	d.container(t, "another", "r.example/app:v1", "container")
	expect(driver, "r.example/pause:2")
	if err := d.client.ContainerService().Delete(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	expect(driver, "r.example/pause:2")
	d.kill(t)
	d.restart(t)
	expect(driver, "r.example/pause:2")
	if err := driver.Close(); err != nil {
		t.Fatal(err)
	}
	driver = newContainerd(t, o)
	expect(driver, "r.example/pause:1")
	if err := driver.Close(); err != nil {
		t.Fatal(err)
	}
}

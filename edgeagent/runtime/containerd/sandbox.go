package containerd

import (
	"context"
	"errors"
	"fmt"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime/sandbox"
)

// sandboxes selects the containers that CRI makes for pods, besides those of the pods.
const sandboxes = `labels."io.cri-containerd.kind"==sandbox`

// sandboxImage gives what is known of the sandbox image now. Whoever cannot tell leaves it
// as it was.
func (d *Driver) sandboxImage(ctx context.Context) imageref.Reference {
	conn := d.criConn()
	if conn == nil {
		return imageref.Reference{}
	}
	err := d.sandbox.AskConfiguration(ctx, cri.NewRuntimeServiceClient(conn))
	if !d.sandbox.Told() {
		err = errors.Join(err, d.lookAtSandboxes(ctx))
	}
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Sandbox image not found out", "err", err)
	}
	return d.sandbox.Image()
}

// lookAtSandboxes learns what the sandboxes were made of. It looks at the containers: CRI
// lists a sandbox only when all of it stands.
func (d *Driver) lookAtSandboxes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sandbox.AskTimeout)
	defer cancel()
	list, err := d.client.ContainerService().List(ctx, sandboxes)
	if err != nil {
		return fmt.Errorf("listing containers of sandboxes: %w", err)
	}
	for i := range list {
		d.sandbox.Used(list[i].Image, list[i].CreatedAt)
	}
	return nil
}

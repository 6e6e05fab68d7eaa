package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
)

// AskTimeout bounds one question: nobody waits long for what may be asked again.
const AskTimeout = 5 * time.Second

// AskConfiguration asks a runtime what it is configured with. Told says then whether that
// tells; a runtime that does not answer leaves it as it was.
func (m *Memory) AskConfiguration(ctx context.Context, runtime api.RuntimeServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	resp, err := runtime.Status(ctx, &api.StatusRequest{Verbose: true})
	if err != nil {
		return fmt.Errorf("asking the runtime for its configuration: %w", err)
	}
	m.Configured(configured(resp.GetInfo()))
	return nil
}

// configured finds the sandbox image in the verbose status.
func configured(info map[string]string) imageref.Reference {
	var config struct {
		SandboxImage string `json:"sandboxImage"`
	}
	if err := json.Unmarshal([]byte(info["config"]), &config); err != nil {
		return imageref.Reference{} // not every runtime tells
	}
	return Parse(config.SandboxImage)
}

// AskSandboxes asks a runtime what its newest sandbox was made of.
func (m *Memory) AskSandboxes(ctx context.Context, runtime api.RuntimeServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	list, err := runtime.ListPodSandbox(ctx, &api.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("listing pod sandboxes: %w", err)
	}
	newest := newest(list.GetItems())
	at := time.Unix(0, newest.GetCreatedAt())
	if newest == nil || !m.Newer(at) {
		return nil
	}
	resp, err := runtime.PodSandboxStatus(ctx, &api.PodSandboxStatusRequest{PodSandboxId: newest.GetId(), Verbose: true})
	if err != nil {
		return fmt.Errorf("asking the runtime for pod sandbox %s: %w", newest.GetId(), err)
	}
	m.Used(used(resp.GetInfo()), at)
	return nil
}

func newest(all []*api.PodSandbox) (newest *api.PodSandbox) {
	for _, s := range all {
		if newest == nil || s.GetCreatedAt() > newest.GetCreatedAt() {
			newest = s
		}
	}
	return newest
}

// used finds the image in the verbose status of a sandbox, "" when it is not told.
func used(info map[string]string) string {
	var detail struct {
		Image string `json:"image"`
	}
	if err := json.Unmarshal([]byte(info["info"]), &detail); err != nil {
		return ""
	}
	return detail.Image
}

package schedulerplugin

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/scheduler-plugin/args"
)

// Name is what profiles call the plugin.
const Name = "ImageCacheLocality"

// Plugin is ImageCacheLocality in one profile.
type Plugin struct {
	args   *args.ImageCacheLocalityArgs
	handle fwk.Handle
}

var _ fwk.PreScorePlugin = (*Plugin)(nil)

// New makes the plugin. object is *args.ImageCacheLocalityArgs, or nil for its defaults.
func New(_ context.Context, object runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	settings, err := settingsOf(object)
	if err != nil {
		return nil, err
	}
	return &Plugin{args: settings, handle: handle}, nil
}

func settingsOf(object runtime.Object) (*args.ImageCacheLocalityArgs, error) {
	settings := &args.ImageCacheLocalityArgs{}
	if object != nil {
		given, ok := object.(*args.ImageCacheLocalityArgs)
		if !ok {
			return nil, fmt.Errorf("arguments of plugin %s are of type %T, want ImageCacheLocalityArgs", Name, object)
		}
		settings = given.DeepCopyObject().(*args.ImageCacheLocalityArgs)
	}
	args.SetDefaults(settings)
	if err := args.Validate(settings); err != nil {
		return nil, fmt.Errorf("arguments of plugin %s: %w", Name, err)
	}
	return settings, nil
}

// Name implements the plugin.
func (p *Plugin) Name() string { return Name }

// PreScore leaves pods alone of whose images nothing is known.
func (p *Plugin) PreScore(context.Context, fwk.CycleState, *corev1.Pod, []fwk.NodeInfo) *fwk.Status {
	return fwk.NewStatus(fwk.Skip)
}

package schedulerplugin

import (
	"context"
	"fmt"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/inventory"
	"edgecache.dev/scheduler-plugin/metrics"
	"edgecache.dev/scheduler-plugin/scoring"
)

// Name is what profiles call the plugin.
const Name = "ImageCacheLocality"

// Plugin is ImageCacheLocality in one profile.
type Plugin struct {
	args      *args.ImageCacheLocalityArgs
	rules     scoring.Rules
	handle    fwk.Handle
	inventory *inventory.Inventory
	images    *images
	waiting   *waiting
	teller    *teller // nil: nobody is told
	// current is the cycle that PreScore began last. Scoring looks here first: looking into the CycleState allocates.
	current atomic.Pointer[cycle]
}

var (
	_ fwk.PreFilterPlugin   = (*Plugin)(nil)
	_ fwk.FilterPlugin      = (*Plugin)(nil)
	_ fwk.PreScorePlugin    = (*Plugin)(nil)
	_ fwk.ScorePlugin       = (*Plugin)(nil)
	_ fwk.ReservePlugin     = (*Plugin)(nil)
	_ fwk.PostBindPlugin    = (*Plugin)(nil)
	_ fwk.SignPlugin        = (*Plugin)(nil)
	_ fwk.EnqueueExtensions = (*Plugin)(nil)
)

// New makes the plugin and begins to watch what nodes hold, until ctx is done; it does not wait for it. object is
// *args.ImageCacheLocalityArgs, or nil for its defaults. Profiles of one scheduler share what is watched.
func New(ctx context.Context, object runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	settings, err := settingsOf(object)
	if err != nil {
		return nil, err
	}
	known, err := watched.take(ctx, settings, handle)
	if err != nil {
		return nil, fmt.Errorf("plugin %s: %w", Name, err)
	}
	p := NewWith(settings, handle, known)
	_, err = handle.SharedInformerFactory().Core().V1().Pods().Informer().AddEventHandler(p.gone())
	if err != nil {
		return nil, fmt.Errorf("plugin %s: watching Pods: %w", Name, err)
	}
	if p.teller, err = newTeller(settings, handle); err != nil {
		return nil, fmt.Errorf("plugin %s: %w", Name, err)
	}
	metrics.Watch(known)
	return p, nil
}

// NewWith makes the plugin on an inventory that others keep. The settings are valid and have their defaults.
func NewWith(settings *args.ImageCacheLocalityArgs, handle fwk.Handle, known *inventory.Inventory) *Plugin {
	p := &Plugin{
		args: settings, handle: handle, inventory: known, images: newImages(), waiting: newWaiting(),
		rules: scoring.Rules{
			Equal: settings.EqualWithin.Milliseconds(), Max: settings.MaxReadyTime.Milliseconds(),
			FadeFrom: float64(*settings.FadeFromPercent) / 100,
		},
	}
	known.Subscribe(p.wake)
	return p
}

func settingsOf(object runtime.Object) (*args.ImageCacheLocalityArgs, error) {
	settings := &args.ImageCacheLocalityArgs{}
	if object != nil {
		given, ok := object.(*args.ImageCacheLocalityArgs)
		if !ok {
			return nil, fmt.Errorf("arguments of plugin %s are of type %T, want ImageCacheLocalityArgs", Name, object)
		}
		settings = given.DeepCopy()
	}
	args.SetDefaults(settings)
	if err := args.Validate(settings); err != nil {
		return nil, fmt.Errorf("arguments of plugin %s: %w", Name, err)
	}
	return settings, nil
}

// Name implements the plugin.
func (p *Plugin) Name() string { return Name }

// EventsToRegister implements the plugin. Of what else lets a refused pod start kube-scheduler has no event: see wake.
func (p *Plugin) EventsToRegister(context.Context) ([]fwk.ClusterEventWithHint, error) {
	return []fwk.ClusterEventWithHint{{Event: fwk.ClusterEvent{Resource: fwk.Node, ActionType: fwk.Add}}}, nil
}

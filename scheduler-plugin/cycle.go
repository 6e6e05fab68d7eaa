package schedulerplugin

import (
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	fwk "k8s.io/kube-scheduler/framework"

	"edgecache.dev/scheduler-plugin/args"
	"edgecache.dev/scheduler-plugin/explain"
	"edgecache.dev/scheduler-plugin/inventory"
	"edgecache.dev/scheduler-plugin/scoring"
)

// cycle is what is worked out once for a pod in a scheduling cycle. It does not change.
type cycle struct {
	of          fwk.CycleState
	pod         *corev1.Pod
	demand      *inventory.Demand
	cpu, memory int64 // that the pod requests: thousandths of a CPU, bytes
	refused     atomic.Bool
	field       atomic.Pointer[field]
	decision    atomic.Pointer[explain.Decision]
}

// Clone implements fwk.StateData.
func (c *cycle) Clone() fwk.StateData { return c }

const stateKey fwk.StateKey = Name

// begin gives the cycle of a pod, new where it has none.
func (p *Plugin) begin(state fwk.CycleState, pod *corev1.Pod) *cycle {
	if c := p.find(state); c != nil {
		return c
	}
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	c := &cycle{
		of: state, pod: pod, demand: p.inventory.Demand(p.images.wants(pod)),
		cpu: requests.Cpu().MilliValue(), memory: requests.Memory().Value(),
	}
	state.Write(stateKey, c)
	p.current.Store(c)
	return c
}

// find gives the cycle that began, nil where none did.
func (p *Plugin) find(state fwk.CycleState) *cycle {
	if c := p.current.Load(); c != nil && c.of == state {
		return c
	}
	data, err := state.Read(stateKey)
	if err != nil {
		return nil
	}
	c, _ := data.(*cycle)
	return c
}

// usable says whether there is anything to go by.
func (p *Plugin) usable() bool { return p.inventory.Synced() && p.inventory.Healthy() }

// estimate is how long the pod's images take on a node.
func (p *Plugin) estimate(c *cycle, info fwk.NodeInfo) scoring.Estimate {
	object := info.Node()
	node := c.demand.Node(object.Name)
	facts, told := c.demand.Facts(node, p.args.OfflinePolicy != args.OfflineIgnore, p.args.Uplink == args.UplinkSite)
	if !told {
		listed := info.GetImageStates()
		facts = c.demand.Neutral(node, object.Status.NodeInfo.Architecture, func(name string) bool { return listed[name] != nil })
	}
	return p.rules.Estimate(facts)
}

// load is how much of a node is requested with the pod: of CPU or memory, what is scarcer.
func (c *cycle) load(info fwk.NodeInfo) float64 {
	requested, allocatable := info.GetRequested(), info.GetAllocatable()
	return max(
		share(requested.GetMilliCPU()+c.cpu, allocatable.GetMilliCPU()),
		share(requested.GetMemory()+c.memory, allocatable.GetMemory()),
	)
}

func share(of, all int64) float64 {
	if all <= 0 {
		return 0
	}
	return float64(of) / float64(all)
}

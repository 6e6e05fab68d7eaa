package edgeagent

import (
	"maps"

	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/report"
)

// report offers the status as it is now.
func (a *Agent) report() {
	defer a.pulse.turn()()
	if a.desired.UID == "" && a.info.Name == "" || a.seen.uid != a.desired.UID {
		a.reportUnseen()
		return
	}
	status := report.Build(report.State{
		Generation:  a.seen.generation,
		WishUnknown: !a.desired.Known,
		Steps:       a.steps,
		Ledger:      maps.Clone(a.ledger),
		Inventory:   a.inventory,
		Work:        a.work(),
		Unanswered:  a.unanswered(),
		Node:        a.node(),
		Trouble:     a.trouble.String(), OfflineStart: a.risk,
		Held: a.held(),
		Link: a.options.LinkSettings,
	}, a.last)
	a.last = status.Conditions
	if a.desired.UID != "" { // else there is nobody to report to yet
		a.reporter.Offer(types.UID(a.desired.UID), &status)
	}
	a.publish(local.FromRuntime, &status)
}

// reportUnseen tells what keeps the agent from looking at the runtime at all. What the
// object said of the images before, by an earlier process, stands until then: a node that
// comes up before its runtime has not lost anything.
func (a *Agent) reportUnseen() {
	a.publishRemembered()
	if a.object == nil || string(a.object.UID) != a.desired.UID {
		return
	}
	status := report.Unseen(a.object.Status, a.key(), a.trouble.String())
	a.last = status.Conditions
	a.reporter.Offer(a.object.UID, &status)
}

func (a *Agent) node() report.Node {
	n := report.Node{Runtime: a.info, BootID: a.options.BootID, AgentVersion: a.options.Version, Key: a.key()}
	if disk, err := a.diskOf(a.info.Root); err == nil {
		n.Disk = disk
	}
	if a.options.Links != nil {
		n.Registries = a.options.Links.Registries()
	}
	return n
}

package caches

import (
	"testing"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/nodes"
	"edgecache.dev/controller/rollout"
)

// TestRolloutNode: how a rollout sees a node, by what the node was told, what it reports and
// what it was let in to.
func TestRolloutNode(t *testing.T) {
	t.Parallel()
	const (
		owner = "ns/a"
		next  = "next"
		last  = "last"
	)
	app := mustParse("r.io/app:v1")
	targets := map[string]rollout.Targets{last: {{Ref: app}: d1}, next: {{Ref: app}: d2}}
	tests := map[string]struct {
		spec    string // last, next or nothing
		reports string // a letter of the legend
		letInTo string
		want    rollout.Progress
		busy    bool
	}{
		"not told":                             {reports: "P", want: rollout.Waiting},
		"about to be told":                     {reports: "P", letInTo: next, want: rollout.Working},
		"told":                                 {spec: next, reports: "P", letInTo: next, want: rollout.Working},
		"told before the controller started":   {spec: next, reports: "P", want: rollout.Working},
		"holds the target":                     {spec: next, reports: "O", letInTo: next, want: rollout.Done},
		"done with the last change":            {spec: last, reports: "C", letInTo: last, want: rollout.Waiting},
		"failed the last change":               {spec: last, reports: "F", letInTo: last, want: rollout.Waiting},
		"at work on the last change":           {spec: last, reports: "P", letInTo: last, want: rollout.Waiting, busy: true},
		"the same, unknown to the gates":       {spec: last, reports: "P", want: rollout.Waiting, busy: true},
		"about to be told of the last change":  {reports: "P", letInTo: last, want: rollout.Waiting, busy: true},
		"let in while at work on the last one": {spec: last, reports: "P", letInTo: next, want: rollout.Working},
		"told of the target, holds the last":   {spec: next, reports: "C", want: rollout.Working},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gates := &rollout.Gates{}
			if tc.letInTo != "" {
				gates.Let(owner, targets[tc.letInTo], []string{"n1"})
			}
			object := nodeObject(app, tc.reports, 1)
			if asked := targets[tc.spec]; asked != nil {
				object.Spec.Images = []v1alpha1.NodeImage{{Name: app.String(), Digest: asked.Of(app, "").String()}}
			}
			gate := gates.Of(owner)
			image := &subject{name: app.String(), want: d2.String(), next: d2.String(), last: gate.Targets.Of(app, "").String()}
			m := &member{name: "n1", reach: fleet.Connected, images: []*subject{image}, object: object}
			got := rolloutNode(m, gate, tc.letInTo == next)
			if got.Progress != tc.want || got.Busy != tc.busy {
				t.Errorf("progress %d, busy %t; want %d, %t", got.Progress, got.Busy, tc.want, tc.busy)
			}
		})
	}
}

// TestNoPlaceForEver: what a node cannot do anything about does not hold a place.
func TestNoPlaceForEver(t *testing.T) {
	t.Parallel()
	app := mustParse("r.io/app:v1")
	full := &v1alpha1.NodeImageCache{}
	for range nodes.MaxImages {
		full.Spec.Images = append(full.Spec.Images, v1alpha1.NodeImage{Name: "r.io/a"})
	}
	gates := &rollout.Gates{}
	gates.Let("ns/a", rollout.Targets{{Ref: app}: d2}, []string{"n1"})
	m := &member{name: "n1", reach: fleet.Connected, object: full, images: []*subject{{name: app.String(), want: d2.String(), next: d2.String(), last: d2.String()}}}
	if n := rolloutNode(m, gates.Of("ns/a"), true); n.Progress != rollout.Failed {
		t.Errorf("a node whose spec is full: %+v, want it failed", n)
	}

	elsewhere := asked(d1, v1alpha1.PhaseCached)
	elsewhere.Spec.Images[0].Resolve = ""
	m = &member{name: "n1", reach: fleet.Connected, object: elsewhere, images: []*subject{{name: app.String(), byNode: true, want: d1.String(), next: d1.String(), fleet: d2.String()}}}
	if n := rolloutNode(m, rollout.Gate{}, true); n.Progress != rollout.Done {
		t.Errorf("a node that another ImageCache's rollout holds back: %+v, want it done", n)
	}
}

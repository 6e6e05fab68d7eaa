package report

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/runtime"
)

// LinkSettings are settings of the link that are in use, and that not every driver can
// honour.
type LinkSettings struct{ BandwidthLimit, GuardedRanges, PullWindows bool }

// setting is one that not every runtime can honour.
type setting struct {
	// needs is the capability without which it has no effect.
	needs runtime.Capability
	// asked says whether it is set.
	asked func(*State) bool
	// effect says what follows, and what to do.
	effect string
}

// settings lists them in the order in which they are said.
func settings() []setting {
	return []setting{{
		needs: runtime.CanPin,
		asked: (*State).wantsPins,
		effect: "pin: Always has no effect: the kubelet may collect cached images when the disk fills, and they are pulled again " +
			"while a registry is reached. Raise the kubelet's imageGCHighThresholdPercent, or use containerd, or CRI-O with --crio-config-dir",
	}, {
		needs:  runtime.CanLimit,
		asked:  func(s *State) bool { return s.Link.BandwidthLimit },
		effect: "bandwidthLimit has no effect: the runtime pulls by itself. Limit it there, or use the driver containerd",
	}, {
		needs:  runtime.CanLimit,
		asked:  func(s *State) bool { return s.Link.GuardedRanges },
		effect: "guardedRanges have no effect: the runtime connects by itself. Use the driver containerd",
	}, {
		needs:  runtime.CanResume,
		asked:  func(s *State) bool { return s.Link.PullWindows },
		effect: "pullWindows throw away half layers: the runtime keeps none, and a pull that a window ends begins anew in the next one",
	}}
}

// unsupported is the condition for settings that the runtime cannot honour, nil when it
// honours all. Nothing is said while the runtime is not known.
func (s *State) unsupported() *metav1.Condition {
	var effects []string
	for _, set := range settings() {
		if s.Node.Runtime.Name != "" && set.asked(s) && !s.Node.Runtime.Can(set.needs) {
			effects = append(effects, set.effect)
		}
	}
	if len(effects) == 0 {
		return nil
	}
	return &metav1.Condition{
		Type: v1alpha1.NodeConditionSettingsNotHonoured, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonRuntimeCannot,
		Message: Cut(fmt.Sprintf("with runtime %s: %s", s.Node.Runtime.Name, strings.Join(effects, "; "))),
	}
}

// wantsPins says whether an image of the wish is to be pinned.
func (s *State) wantsPins() bool {
	for _, images := range [][]plan.Image{s.Steps.Missing, s.Steps.Cached, s.Steps.Unresolved} {
		for i := range images {
			if images[i].Pin {
				return true
			}
		}
	}
	return false
}

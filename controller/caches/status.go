package caches

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/rollout"
	"edgecache.dev/internal/brief"
)

// A status has a ceiling of 768 KiB as JSON, whatever the fleet's size and whatever registries
// and agents say: 1,000 images with names of 255 characters take 580 KB without messages,
// 20 failures and 6 conditions 30 KB with theirs. The 1,000 references of a spec take 260 KB
// more; etcd takes requests of 1.5 MiB. Messages are therefore measured as they are stored.
const (
	// maxMessage is the length of one message, in bytes of JSON. The CRD allows as many characters.
	maxMessage = 512
	// maxMessages is the length of all check messages together, in bytes of JSON.
	maxMessages = 128 << 10
	// maxCondition is the length of a condition's message, in bytes of JSON.
	maxCondition = 1024
)

// image is one image of a cache, resolved or not.
type image struct {
	name   string
	ref    imageref.Reference // zero when the name does not parse
	target digest.Digest
	check  *v1alpha1.ImageCheck // nil while nothing is known
	byNode bool                 // nodes resolve it, each site for itself
	sites  *v1alpha1.ImageSites // nil unless it is a tag that nodes resolve
}

// facts is all that a cache's status depends on.
type facts struct {
	ic     *v1alpha1.ImageCache
	images []image // sorted by name
	tally  tally
	// refusal says why the cache is not served, if it is not.
	refusal fleet.Refusal
	// unsealed says that the cache's pull credentials cannot be sealed to nodes.
	unsealed bool
	// rollout is how changes are spread, nil where they are not, or not yet.
	rollout *rollout.Decision
	// handled is the refresh token, observed the generation, whose images were all looked up.
	handled  string
	observed int64
}

// status works out the status of a cache. Condition times are carried over from the old
// one where the condition did not change.
func (f *facts) status() v1alpha1.ImageCacheStatus {
	s := v1alpha1.ImageCacheStatus{
		ObservedGeneration:   f.observed,
		Conditions:           slices.Clone(f.ic.Status.Conditions),
		Nodes:                f.tally.nodes,
		Images:               f.imageStatuses(),
		Failures:             f.tally.failures,
		FailureCount:         f.tally.failureCount,
		LastHandledRefreshAt: f.handled,
	}
	s.Summary.Images = int32(len(f.images))
	s.Summary.Ready = fmt.Sprintf("%d/%d", s.Nodes.Ready, s.Nodes.Selected)
	for _, v := range f.verdicts() {
		v.apply(&s.Conditions, f.observed)
	}
	return s
}

func (f *facts) imageStatuses() []v1alpha1.ImageStatus {
	out := make([]v1alpha1.ImageStatus, 0, len(f.images))
	limit := maxMessage
	if n := len(f.images); n > 0 {
		limit = min(limit, maxMessages/n)
	}
	for _, img := range f.images {
		st := v1alpha1.ImageStatus{Name: img.name, Digest: img.target.String(), Sites: img.sites}
		if img.check != nil {
			check := *img.check
			check.Message = brief.JSON(check.Message, limit)
			st.Check = &check
		}
		if counts := f.tally.images[img.ref]; counts != nil {
			st.Nodes = *counts
		}
		out = append(out, st)
	}
	return out
}

// verdict is a condition to be, or not to be, in the status.
type verdict struct {
	kind    string
	absent  bool
	status  metav1.ConditionStatus
	reason  string
	message string
}

func (v verdict) apply(conditions *[]metav1.Condition, generation int64) {
	if v.absent {
		meta.RemoveStatusCondition(conditions, v.kind)
		return
	}
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: v.kind, Status: v.status, Reason: v.reason, Message: brief.JSON(v.message, maxCondition), ObservedGeneration: generation,
	})
}

func (f *facts) verdicts() []verdict {
	ready := f.ready()
	return []verdict{ready, f.fullyCached(), f.pullable(), f.reconciling(ready), f.stalled(), f.sealing()}
}

func (f *facts) state() v1alpha1.CacheState {
	if f.ic.Spec.State == "" {
		return v1alpha1.StateCached
	}
	return f.ic.Spec.State
}

// ready judges the reachable nodes. docs/status.md has the truth table.
func (f *facts) ready() verdict {
	v := verdict{kind: v1alpha1.ConditionReady, status: metav1.ConditionFalse, message: f.sentence()}
	n := &f.tally.nodes
	unresolved := f.unresolvedReason()
	switch {
	case f.refusal.Reason != "":
		v.reason, v.message = f.refusal.Reason, f.refusal.Message
	case f.state() == v1alpha1.StatePurged:
		return f.readyPurged(v)
	case n.Selected == 0:
		v.status, v.reason = metav1.ConditionTrue, v1alpha1.ReasonNoNodesSelected
		v.message = "no Linux node matches the selectors: nothing to do until one does"
	case unresolved != "":
		v.reason, v.message = unresolved, f.unresolvedMessage()
	case n.Ready+n.Updating+n.Failed == 0:
		v.status, v.reason = metav1.ConditionUnknown, v1alpha1.ReasonNoNodeReachable
	case n.Failed > 0:
		v.reason, v.message = v1alpha1.ReasonImagesFailing, v.message+"; "+f.newestFailure()
	case n.Updating > 0:
		v.reason = v1alpha1.ReasonProgressing
	default:
		v.status, v.reason = metav1.ConditionTrue, v1alpha1.ReasonAllCached
	}
	if f.state() == v1alpha1.StateSuspended && f.refusal.Reason == "" {
		v.reason = v1alpha1.ReasonSuspended
		v.message = "suspended, nodes keep what they have: " + v.message
	}
	return v
}

func (f *facts) readyPurged(v verdict) verdict {
	if f.tally.nodes.Updating > 0 {
		v.reason = v1alpha1.ReasonPurging
		return v
	}
	v.status, v.reason = metav1.ConditionTrue, v1alpha1.ReasonPurged
	return v
}

// fullyCached judges all selected nodes by what is last known of them.
func (f *facts) fullyCached() verdict {
	v := verdict{kind: v1alpha1.ConditionFullyCached, status: metav1.ConditionFalse, message: f.sentence()}
	n := &f.tally.nodes
	switch unresolved := f.unresolvedReason(); {
	case f.state() == v1alpha1.StatePurged:
		v.reason = v1alpha1.ReasonPurged
	case n.Selected == 0:
		v.status, v.reason = metav1.ConditionTrue, v1alpha1.ReasonNoNodesSelected
	case unresolved != "":
		v.reason, v.message = unresolved, f.unresolvedMessage()
	case f.tally.held == n.Selected:
		v.status, v.reason = metav1.ConditionTrue, v1alpha1.ReasonAllCached
	case n.Updating+n.Failed > 0:
		v.reason = v1alpha1.ReasonProgressing
	default:
		v.reason = v1alpha1.ReasonNodesUnreachable
	}
	return v
}

// pullable sums up the checks of all images.
func (f *facts) pullable() verdict {
	v := verdict{kind: v1alpha1.ConditionPullable, status: metav1.ConditionTrue, reason: v1alpha1.ReasonAllPullable}
	v.message = fmt.Sprintf("all %d images were found in their registries", len(f.images))
	worst := f.worstCheck()
	switch {
	case worst == nil:
	case worst.byNode:
		v.status, v.reason = metav1.ConditionUnknown, v1alpha1.ReasonNotChecked
		v.message = "not checked: with spec.resolve: Node the nodes ask their registries, the controller asks none"
	case worst.check == nil && worst.target != "":
		v.status, v.reason, v.message = metav1.ConditionUnknown, v1alpha1.ReasonNotChecked, "not checked: spec.precheck is Off"
	case worst.check == nil:
		v.status, v.reason, v.message = metav1.ConditionUnknown, v1alpha1.ReasonNotChecked, worst.name+" was not looked up yet"
	case worst.check.Verdict == v1alpha1.VerdictNotPullable:
		v.status, v.reason, v.message = metav1.ConditionFalse, v1alpha1.ReasonNotPullable, worst.describe()+f.regardless(worst)
	default:
		v.status, v.reason, v.message = metav1.ConditionUnknown, v1alpha1.ReasonInconclusive, worst.describe()+f.regardless(worst)
	}
	return v
}

// regardless says what nodes are told of an image that was not found pullable.
func (f *facts) regardless(img *image) string {
	switch {
	case img.target == "" || img.ref.IsZero():
		return ""
	case img.check.Verdict == v1alpha1.VerdictInconclusive:
		return "; nodes go by the digest that is known"
	case f.ic.Spec.Precheck == v1alpha1.PrecheckWarn:
		return "; nodes are told of it all the same, as spec.precheck is Warn"
	}
	return "; nodes keep what they have"
}

// worstCheck gives the first image that is not pullable, else the first that is
// inconclusive, else the first that was not looked up; nil when all are pullable.
func (f *facts) worstCheck() *image {
	var worst *image
	rank := func(i *image) int {
		switch {
		case i == nil, i.check != nil && i.check.Verdict == v1alpha1.VerdictPullable:
			return 0
		case i.check == nil:
			return 1
		case i.check.Verdict == v1alpha1.VerdictInconclusive:
			return 2
		}
		return 3
	}
	for i := range f.images {
		if rank(&f.images[i]) > rank(worst) {
			worst = &f.images[i]
		}
	}
	return worst
}

func (i *image) describe() string {
	return strings.TrimSuffix(fmt.Sprintf("%s: %s: %s", i.name, i.check.Reason, i.check.Message), ": ")
}

// reconciling is present while the controller or reachable nodes still work towards Ready.
func (f *facts) reconciling(ready verdict) verdict {
	idle := ready.status == metav1.ConditionTrue || !f.stalled().absent || f.state() == v1alpha1.StateSuspended
	return verdict{
		kind: v1alpha1.ConditionReconciling, absent: idle,
		status: metav1.ConditionTrue, reason: ready.reason, message: ready.message,
	}
}

func (f *facts) stalled() verdict {
	v := verdict{kind: v1alpha1.ConditionStalled, status: metav1.ConditionTrue}
	switch d := f.rollout; {
	case f.refusal.Reason != "":
		v.reason, v.message = f.refusal.Reason, f.refusal.Message
	case d != nil && d.Stopped:
		v.reason = v1alpha1.ReasonTooManyFailures
		v.message = fmt.Sprintf("the rollout stopped: of %d nodes that had their turn %d fail, %d wait. It goes on by itself when fewer fail, "+
			"or when spec.rollout.maxFailurePercent is raised; newest failure: %s", d.Tried, d.Failed, d.Waits, f.newestFailure())
	default:
		v.absent = true
	}
	return v
}

// sealing is present while nodes are not sent the cache's pull credentials.
func (f *facts) sealing() verdict {
	return verdict{
		kind: v1alpha1.ConditionSealingDisabled, absent: !f.unsealed,
		status: metav1.ConditionTrue, reason: v1alpha1.ReasonPolicyMissing,
		message: "pull credentials are not sent to nodes while nothing holds agents to their own objects: " +
			"apply edgeagent/admission.yaml (ValidatingAdmissionPolicy edgecache-agent and its binding)",
	}
}

// unresolvedReason says why some image has no digest yet, "" when all have one.
func (f *facts) unresolvedReason() string {
	img := f.firstUnresolved()
	switch {
	case img == nil:
		return ""
	case img.check == nil:
		return v1alpha1.ReasonUnresolved
	case img.check.Reason == v1alpha1.ReasonInvalidReference:
		return v1alpha1.ReasonInvalidReference
	case img.check.Verdict == v1alpha1.VerdictNotPullable:
		return v1alpha1.ReasonNotPullable
	}
	return v1alpha1.ReasonInconclusive
}

func (f *facts) unresolvedMessage() string {
	img := f.firstUnresolved()
	if img.check == nil {
		return img.name + " is being looked up in its registry"
	}
	return img.describe()
}

// firstUnresolved prefers an image that is known to be wrong to one still looked up.
func (f *facts) firstUnresolved() *image {
	var found *image
	for i := range f.images {
		img := &f.images[i]
		if img.target == "" && !img.byNode && (found == nil || found.check == nil && img.check != nil) {
			found = img
		}
	}
	return found
}

// sentence says how far the fleet is.
func (f *facts) sentence() string {
	n := &f.tally.nodes
	verb := "hold all"
	if f.state() == v1alpha1.StatePurged {
		verb = "gave up all"
	}
	parts := []string{fmt.Sprintf("%d of %d nodes %s %d images", n.Ready, n.Selected, verb, len(f.images))}
	var waits int32
	if f.rollout != nil {
		waits = int32(f.rollout.Waits)
	}
	for _, p := range []struct {
		count int32
		what  string
	}{{n.Updating, "updating"}, {waits, "of them waiting for their turn"}, {n.Failed, "failing"}, {n.Unreachable, "unreachable"}, {n.NoAgent, "without agent"}} {
		if p.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.count, p.what))
		}
	}
	if n := f.drifting(); n > 0 {
		parts = append(parts, fmt.Sprintf("sites differ on %d images", n))
	}
	return strings.Join(parts, ", ")
}

// drifting counts the images that sites, or nodes of one site, found different digests for.
func (f *facts) drifting() int {
	n := 0
	for i := range f.images {
		if s := f.images[i].sites; s != nil && (s.Digests > 1 || s.Drifted > 0) {
			n++
		}
	}
	return n
}

func (f *facts) newestFailure() string {
	if len(f.tally.failures) == 0 {
		return ""
	}
	w := f.tally.failures[0]
	return fmt.Sprintf("%s on %s: %s: %s", w.Image, w.Node, w.Reason, w.Message)
}

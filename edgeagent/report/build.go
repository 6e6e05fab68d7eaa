package report

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/plan"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// Work is what is going on for one image.
type Work struct {
	// Pulling is true while an attempt runs.
	Pulling bool
	// Moved is true once the running attempt brought bytes in.
	Moved bool
	// Size and Done are bytes of the image, 0 while unknown.
	Size, Done int64
	// Since is when the image entered its present phase.
	Since metav1.Time
}

// State is all that a status depends on.
type State struct {
	Generation int64
	Steps      plan.Steps
	Ledger     map[string]store.Entry
	Inventory  runtime.Inventory
	Work       map[string]Work
	// WishUnknown says that nobody has said what the node is to hold, or not all of it.
	WishUnknown bool
	// Unseen says that Inventory is what is remembered: the runtime was not looked at.
	Unseen bool
	// Unanswered says, by image, why a registry last gave no answer to the refresh token.
	Unanswered map[string]string
	Node       Node
	// Trouble says what keeps the agent from doing all it should, "" when nothing.
	Trouble string
	// OfflineStart is the condition OfflineStartAtRisk, nil where it is not judged.
	OfflineStart *metav1.Condition
	// Held says, by image, what keeps it from being brought now.
	Held map[string]Hold
	// Link are the settings of the link that are in use.
	Link LinkSettings
}

// Node is what is reported of the node itself.
type Node struct {
	Runtime      runtime.Info
	Disk         *v1alpha1.DiskStatus
	BootID       string
	AgentVersion string
	// Key is what credentials for the node are sealed to, nil for none.
	Key *v1alpha1.NodeKey
	// Registries are the links to registries.
	Registries []v1alpha1.RegistryStatus
}

// Build works out the status. Conditions carry over the transition times of before.
func Build(s State, before []metav1.Condition) v1alpha1.NodeImageCacheStatus {
	status := v1alpha1.NodeImageCacheStatus{
		ObservedGeneration: s.Generation,
		Images:             s.images(),
		OtherImages:        s.others(),
		Runtime:            runtimeInfo(s.Node.Runtime),
		Platform:           s.Node.Runtime.Platform,
		Disk:               s.Node.Disk,
		Registries:         s.Node.Registries,

		UnpackBytesPerSecond: s.Node.Runtime.UnpackBytesPerSecond,

		BootID:       s.Node.BootID,
		AgentVersion: s.Node.AgentVersion,
		Key:          s.Node.Key,
		Conditions:   slices.Clone(before),
	}
	status.Summary = s.summary(status.Images)
	for _, c := range s.conditions(status.Images) {
		c.ObservedGeneration = s.Generation
		meta.SetStatusCondition(&status.Conditions, c)
	}
	if s.Trouble == "" {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.NodeConditionDegraded)
	}
	if s.OfflineStart == nil { // said by an agent with other settings
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.NodeConditionOfflineStartAtRisk)
	}
	if s.unsupported() == nil {
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.NodeConditionSettingsNotHonoured)
	}
	return status
}

// Unseen is the status of an agent that could not look at the runtime yet: what was said
// of the object before, by an earlier process, with what the trouble is. It claims to have
// observed no more than that. The key is the present one: credentials are sealed to it.
func Unseen(said v1alpha1.NodeImageCacheStatus, key *v1alpha1.NodeKey, trouble string) v1alpha1.NodeImageCacheStatus {
	status := *said.DeepCopy()
	status.Key = key
	if meta.FindStatusCondition(status.Conditions, v1alpha1.NodeConditionReady) == nil {
		meta.SetStatusCondition(&status.Conditions, metav1.Condition{
			Type: v1alpha1.NodeConditionReady, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRuntimeError,
			Message: "the container runtime was not looked at yet", ObservedGeneration: said.ObservedGeneration,
		})
	}
	if trouble != "" {
		meta.SetStatusCondition(&status.Conditions, degraded(trouble, said.ObservedGeneration))
	}
	return status
}

func degraded(trouble string, generation int64) metav1.Condition {
	return metav1.Condition{
		Type: v1alpha1.NodeConditionDegraded, Status: metav1.ConditionTrue, Reason: v1alpha1.NodeConditionDegraded,
		Message: Cut(trouble), ObservedGeneration: generation,
	}
}

func (s *State) images() []v1alpha1.NodeImageStatus {
	var out []v1alpha1.NodeImageStatus
	for i := range s.Steps.Cached {
		img := &s.Steps.Cached[i]
		out = append(out, v1alpha1.NodeImageStatus{
			Name: img.Ref.String(), Digest: img.Digest.String(), Phase: v1alpha1.PhaseCached,
			Size: s.Inventory[img.Ref].Size,
		})
	}
	for i := range s.Steps.Missing {
		out = append(out, s.missing(&s.Steps.Missing[i]))
	}
	for i := range s.Steps.Unresolved {
		out = append(out, s.missing(&s.Steps.Unresolved[i]))
	}
	s.resolved(out)
	for i := range s.Steps.Removals {
		out = append(out, s.removing(&s.Steps.Removals[i]))
	}
	slices.SortFunc(out, func(a, b v1alpha1.NodeImageStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest, b.Digest))
	})
	return out
}

// resolved adds what registries gave for the tags that are this node's to resolve.
func (s *State) resolved(images []v1alpha1.NodeImageStatus) {
	asks := map[string]bool{}
	for i := range s.Steps.Asks {
		asks[s.Steps.Asks[i].Ref.String()] = true
	}
	for i := range images {
		name := images[i].Name
		if !asks[name] {
			continue
		}
		tag := v1alpha1.ResolvedTag{Reason: s.Unanswered[name]}
		if said := s.Ledger[name].Resolved; said != nil {
			tag.Digest, tag.RefreshToken, tag.Newer = said.Digest, said.RefreshToken, said.Newer
		}
		if tag != (v1alpha1.ResolvedTag{}) {
			images[i].Resolved = &tag
		}
	}
}

func (s *State) missing(img *plan.Image) v1alpha1.NodeImageStatus {
	name := img.Ref.String()
	w := s.Work[name]
	st := v1alpha1.NodeImageStatus{
		Name: name, Digest: img.Digest.String(), Phase: v1alpha1.PhasePending,
		Size: w.Size, BytesPulled: w.Done,
	}
	if h, ok := s.Inventory[img.Ref]; ok && h.Digest != "" && h.Digest != img.Digest {
		st.Current = h.Digest.String()
	}
	if h, held := s.Held[name]; held {
		return s.held(st, h, w)
	}
	failure := s.Ledger[name].Failure
	failed := failure != nil && failure.Digest == st.Digest
	switch {
	case failed && !w.Moved:
		st.Phase, st.Reason, st.Message, st.Attempts = v1alpha1.PhaseFailed, failure.Reason, failure.Message, failure.Attempts
		st.Since = new(metav1.NewTime(failure.Since))
		return st
	case w.Pulling:
		st.Phase = v1alpha1.PhasePulling
	}
	if failed {
		st.Attempts = failure.Attempts
	}
	if !w.Since.IsZero() {
		st.Since = new(w.Since)
	}
	return st
}

func (s *State) removing(r *plan.Removal) v1alpha1.NodeImageStatus {
	st := v1alpha1.NodeImageStatus{
		Name: r.Name, Digest: r.Digest, Phase: v1alpha1.PhaseRemoving, Since: new(metav1.NewTime(r.Since)),
	}
	if r.InUse {
		st.Reason, st.Message = v1alpha1.ReasonInUse, "a container uses the image"
	}
	return st
}

// maxOthers is how many images that nobody asked for are listed.
const maxOthers = 100

// others lists what the runtime holds beside the wish, largest first.
func (s *State) others() []v1alpha1.OtherImage {
	wished := map[string]bool{}
	for _, images := range [][]plan.Image{s.Steps.Cached, s.Steps.Missing, s.Steps.Unresolved} {
		for i := range images {
			wished[cmp.Or(images[i].Digest, s.Inventory[images[i].Ref].Digest).String()] = true
		}
	}
	found := map[string]*v1alpha1.OtherImage{}
	for _, ref := range slices.SortedFunc(keys(s.Inventory), imageref.Compare) {
		h := s.Inventory[ref]
		if h.Digest == "" || wished[h.Digest.String()] || !h.Complete {
			continue
		}
		o := found[h.Digest.String()]
		if o == nil {
			o = &v1alpha1.OtherImage{Digest: h.Digest.String(), Size: h.Size}
			found[o.Digest] = o
		}
		if len(o.Names) < 2 {
			o.Names = append(o.Names, ref.String())
		}
	}
	out := make([]v1alpha1.OtherImage, 0, len(found))
	for _, o := range found {
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b v1alpha1.OtherImage) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Digest, b.Digest))
	})
	return out[:min(len(out), maxOthers)]
}

func keys(inv runtime.Inventory) func(func(imageref.Reference) bool) {
	return func(yield func(imageref.Reference) bool) {
		for ref := range inv {
			if !yield(ref) {
				return
			}
		}
	}
}

func (s *State) summary(images []v1alpha1.NodeImageStatus) v1alpha1.NodeImageCacheSummary {
	sum := v1alpha1.NodeImageCacheSummary{
		Cached: fmt.Sprintf("%d/%d", len(s.Steps.Cached), len(s.Steps.Cached)+s.Steps.Lacking()),
		Failed: int32(count(images, v1alpha1.PhaseFailed)),
	}
	if s.Node.Disk != nil {
		sum.Available = HumanBytes(s.Node.Disk.Available)
	}
	return sum
}

func (s *State) conditions(images []v1alpha1.NodeImageStatus) []metav1.Condition {
	ready := metav1.Condition{
		Type: v1alpha1.NodeConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllCached,
		Message: fmt.Sprintf("all %d images are cached", len(s.Steps.Cached)),
	}
	if n := s.Steps.Lacking(); n > 0 {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1alpha1.ReasonProgressing
		ready.Message = fmt.Sprintf("%d of %d images are cached", len(s.Steps.Cached), len(s.Steps.Cached)+n)
		if failed := count(images, v1alpha1.PhaseFailed); failed > 0 {
			ready.Reason = v1alpha1.ReasonImagesFailing
			ready.Message += fmt.Sprintf(", %d failing", failed)
		}
	}
	out := []metav1.Condition{s.doubt(ready)}
	if s.Trouble != "" {
		out = append(out, degraded(s.Trouble, s.Generation))
	}
	if c := s.unsupported(); c != nil {
		out = append(out, *c)
	}
	if s.OfflineStart != nil {
		c := *s.OfflineStart
		c.Message = Cut(c.Message)
		out = append(out, c)
	}
	return out
}

// doubt has Ready not say of a node that all is there while that is not known.
func (s *State) doubt(ready metav1.Condition) metav1.Condition {
	switch {
	case ready.Status != metav1.ConditionTrue:
	case s.WishUnknown:
		ready.Status, ready.Reason = metav1.ConditionUnknown, v1alpha1.ReasonWishUnknown
		ready.Message = "nobody has said yet what this node should hold"
		if n := len(s.Steps.Cached); n > 0 {
			ready.Message = fmt.Sprintf("%d images are cached; nobody has said yet what else this node should hold", n)
		}
	case s.Unseen:
		ready.Status, ready.Reason = metav1.ConditionUnknown, v1alpha1.ReasonRuntimeError
		ready.Message = fmt.Sprintf("%d images were cached when the container runtime was looked at last; it was not looked at yet since then", len(s.Steps.Cached))
	}
	return ready
}

func count(images []v1alpha1.NodeImageStatus, phase v1alpha1.ImagePhase) int {
	n := 0
	for i := range images {
		if images[i].Phase == phase {
			n++
		}
	}
	return n
}

func runtimeInfo(i runtime.Info) v1alpha1.RuntimeInfo {
	out := v1alpha1.RuntimeInfo{Name: i.Name, Version: i.Version, Snapshotter: i.Snapshotter, SandboxImage: i.SandboxImage.String()}
	for _, c := range i.Capabilities {
		out.Capabilities = append(out.Capabilities, string(c))
	}
	slices.Sort(out.Capabilities)
	return out
}

// HumanBytes gives a size with a binary unit and two or three digits: coarse, so that the
// status does not change with every block written.
func HumanBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exp := float64(n)/unit, 0
	for value >= unit && exp < 4 {
		value /= unit
		exp++
	}
	format := "%.1f %ciB"
	if value >= 10 {
		format = "%.0f %ciB"
	}
	return fmt.Sprintf(format, value, "KMGTP"[exp])
}

package manifest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

const (
	// grace is how long images stay of an ImageCache that still names them and no longer
	// selects the node: a label that was lost by mistake does not cost a download.
	grace = time.Hour
	// maxToken is the longest refresh token that is passed on as it is, in bytes.
	maxToken = 32
)

// cache is an ImageCache in force.
type cache struct {
	*wish.Cache
	spec  *v1alpha1.ImageCacheSpec
	token string
}

// planInput is all that the spec depends on.
type planInput struct {
	node   *corev1.Node
	caches map[wish.Owner]*cache
	// gone says what becomes of the images of ImageCaches that were deleted.
	gone map[wish.Owner]v1alpha1.DeletionPolicy
	// whole says that every ImageCache is known.
	whole   bool
	current v1alpha1.NodeImageCacheSpec
	// status is the agent's newest, and carried says that it is about current.
	status  *v1alpha1.NodeImageCacheStatus
	carried bool
	now     time.Time
}

// plan works out what the node should hold, as the controller does for a fleet.
func plan(in planInput) v1alpha1.NodeImageCacheSpec {
	p := planner{planInput: in, before: map[string]*v1alpha1.NodeImage{}, said: map[string]*v1alpha1.NodeImageStatus{}}
	for i := range in.current.Images {
		p.before[in.current.Images[i].Name] = &in.current.Images[i]
	}
	for i := range in.status.Images {
		p.said[in.status.Images[i].Name] = &in.status.Images[i]
	}
	images := p.images()
	spec := v1alpha1.NodeImageCacheSpec{NodeUID: in.current.NodeUID, Images: images, Remove: p.remove(images)}
	if spec.NodeUID == "" && in.whole {
		spec.NodeUID = in.node.Name
	}
	return spec
}

type planner struct {
	planInput
	before map[string]*v1alpha1.NodeImage
	said   map[string]*v1alpha1.NodeImageStatus
}

func (p *planner) images() []v1alpha1.NodeImage {
	var compiled []*wish.Cache
	for _, c := range p.caches {
		compiled = append(compiled, c.Cache)
	}
	var out []v1alpha1.NodeImage
	wanted := map[string]bool{}
	wished := wish.For(p.node, compiled, p.current.Images)
	for i := range wished {
		out = append(out, p.image(&wished[i]))
		wanted[wished[i].Ref.String()] = true
	}
	for i := range p.current.Images {
		entry, stays := p.leaving(p.current.Images[i])
		if (stays || p.orphan(&entry)) && !wanted[entry.Name] {
			out = append(out, entry)
			wanted[entry.Name] = true
		}
	}
	if entry, known := p.sandbox(); known && !wanted[entry.Name] {
		out = append(out, entry)
	}
	slices.SortFunc(out, func(a, b v1alpha1.NodeImage) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (p *planner) image(w *wish.Image) v1alpha1.NodeImage {
	entry := v1alpha1.NodeImage{Name: w.Ref.String(), Priority: w.Priority}
	if w.Pin == v1alpha1.PinNever {
		entry.Pin = v1alpha1.PinNever
	}
	if w.KeepPrevious != wish.DefaultKeepPrevious {
		entry.KeepPrevious = new(w.KeepPrevious)
	}
	for _, o := range w.Owners {
		entry.Owners = append(entry.Owners, string(o))
	}
	before := p.before[entry.Name]
	switch {
	case w.Held != "":
		entry.Digest = w.Held.String()
		if before != nil {
			entry.Resolve, entry.RefreshToken = before.Resolve, before.RefreshToken
		}
	case w.Ref.Tag() == "":
		entry.Digest = w.Ref.Digest().String()
	default:
		entry.Resolve, entry.Digest = v1alpha1.ResolveNode, p.frozen(before, p.said[entry.Name])
		p.ask(&entry, w, before)
	}
	return entry
}

// frozen gives the digest of a tag: the first that was found, until another one is found by
// who asked again.
func (p *planner) frozen(before *v1alpha1.NodeImage, said *v1alpha1.NodeImageStatus) string {
	known := ""
	if before != nil {
		known = before.Digest
	}
	if said == nil || said.Resolved == nil || said.Resolved.Digest == "" || known != "" && !said.Resolved.Newer {
		return known
	}
	return said.Resolved.Digest
}

// ask says when the agent asks for a tag again: at the shortest interval of all owners, and
// once for a token that somebody changed.
func (p *planner) ask(entry *v1alpha1.NodeImage, w *wish.Image, before *v1alpha1.NodeImage) {
	var tokens []string
	var every time.Duration
	for _, o := range w.Owners {
		c := p.caches[o]
		if c == nil || c.State() != v1alpha1.StateCached {
			continue
		}
		if c.token != "" {
			tokens = append(tokens, c.token)
		}
		if d := c.spec.RefreshEvery(w.Ref.Moves()); d > 0 && (every == 0 || d < every) {
			every = d
		}
	}
	if every > 0 {
		entry.ResolveEvery = &metav1.Duration{Duration: every}
	}
	entry.RefreshToken = combined(tokens)
	if entry.RefreshToken == "" && before != nil {
		entry.RefreshToken = before.RefreshToken
	}
}

// combined makes one token of those of several owners: another one when any of them changes.
func combined(tokens []string) string {
	switch {
	case len(tokens) == 0:
		return ""
	case len(tokens) == 1 && len(tokens[0]) <= maxToken:
		return tokens[0]
	}
	sum := sha256.Sum256([]byte(strings.Join(tokens, "\x00")))
	return hex.EncodeToString(sum[:maxToken/2])
}

// leaving keeps an image whose owners still name it and no longer select the node, until
// the grace is over.
func (p *planner) leaving(entry v1alpha1.NodeImage) (v1alpha1.NodeImage, bool) {
	ref, err := imageref.Parse(entry.Name)
	if err != nil || entry.Digest == "" {
		return entry, false
	}
	owners := slices.DeleteFunc(slices.Clone(entry.Owners), func(o string) bool { return !p.strayed(wish.Owner(o), ref) })
	if len(owners) == 0 {
		return entry, false
	}
	entry.Owners = owners
	if entry.LeavesAt == nil {
		entry.LeavesAt = new(metav1.NewTime(p.now.Add(grace)).Rfc3339Copy())
	}
	return entry, p.now.Before(entry.LeavesAt.Time)
}

// orphan says whether an owner of an image may stand in a file that has a mistake, and of
// which no good version is remembered.
func (p *planner) orphan(entry *v1alpha1.NodeImage) bool {
	return !p.whole && slices.ContainsFunc(entry.Owners, func(o string) bool {
		_, there := p.caches[wish.Owner(o)]
		_, gone := p.gone[wish.Owner(o)]
		return !there && !gone
	})
}

func (p *planner) strayed(owner wish.Owner, ref imageref.Reference) bool {
	c := p.caches[owner]
	return c != nil && c.State() == v1alpha1.StateCached && c.Names(ref) && !slices.Contains(c.On(p.node), ref)
}

// sandbox gives the image of the runtime's pod sandboxes, without which no pod starts, at
// the digest that the runtime has. No registry is asked what its tag stands for.
func (p *planner) sandbox() (v1alpha1.NodeImage, bool) {
	ref, err := imageref.Parse(p.status.Runtime.SandboxImage)
	if err != nil {
		return v1alpha1.NodeImage{}, false
	}
	name, digest := ref.String(), ref.Digest().String()
	if before := p.before[name]; before != nil && digest == "" {
		digest = before.Digest
	}
	for i := range p.status.OtherImages {
		if o := &p.status.OtherImages[i]; digest == "" && slices.Contains(o.Names, name) {
			digest = o.Digest
		}
	}
	return v1alpha1.NodeImage{
		Name: name, Digest: digest, Priority: wish.SandboxPriority, Owners: []string{v1alpha1.OwnerSandboxImage},
	}, digest != ""
}

// remove keeps what is still to be removed and adds what owners gave up.
func (p *planner) remove(images []v1alpha1.NodeImage) []v1alpha1.RemoveImage {
	wanted := map[string]bool{}
	for i := range images {
		wanted[images[i].Name] = true
	}
	out := map[string]v1alpha1.RemoveImage{}
	for _, r := range p.current.Remove {
		if !wanted[r.Name] && !p.removed(r) {
			out[r.Name+"@"+r.Digest] = r
		}
	}
	for i := range p.current.Images {
		img := &p.current.Images[i]
		key := img.Name + "@" + img.Digest
		if _, there := out[key]; there || wanted[img.Name] || img.Digest == "" || !slices.ContainsFunc(img.Owners, p.gaveUp) {
			continue
		}
		out[key] = v1alpha1.RemoveImage{Name: img.Name, Digest: img.Digest, Since: metav1.NewTime(p.now).Rfc3339Copy()}
	}
	var all []v1alpha1.RemoveImage
	for _, key := range slices.Sorted(maps.Keys(out)) {
		all = append(all, out[key])
	}
	return all
}

// gaveUp says whether an owner has its images removed: it is there and asks for them no
// longer, or was deleted with that policy.
func (p *planner) gaveUp(owner string) bool {
	_, there := p.caches[wish.Owner(owner)]
	return there || p.gone[wish.Owner(owner)] == v1alpha1.DeletionRemove
}

// removed says whether the agent has carried out a removal.
func (p *planner) removed(r v1alpha1.RemoveImage) bool {
	return p.carried && !slices.ContainsFunc(p.status.Images, func(s v1alpha1.NodeImageStatus) bool {
		return s.Phase == v1alpha1.PhaseRemoving && s.Name == r.Name && s.Digest == r.Digest
	})
}

// nextLeave says when the next image leaves, the zero time when none does.
func nextLeave(spec *v1alpha1.NodeImageCacheSpec) time.Time {
	var next time.Time
	for i := range spec.Images {
		if at := spec.Images[i].LeavesAt; at != nil && (next.IsZero() || at.Time.Before(next)) {
			next = at.Time
		}
	}
	return next
}

package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// Input is all that the next steps depend on.
type Input struct {
	Desired   store.Desired
	Ledger    map[string]store.Entry
	Inventory runtime.Inventory
	// InUse are the ids of images that running or created containers use.
	InUse map[string]struct{}
	// UseUnknown says that InUse is not known: every image may be in use.
	UseUnknown bool
	// Running are names that an attempt was at work on when Inventory was read: it may
	// have named the image since, also when it was told to stop.
	Running map[string]bool
	// Names says that the driver names images by digest beside their tag.
	Names bool
	// Pins says that the driver can pin, and marks what edgecache looks after.
	Pins bool
	// Sandbox is the image that pod sandboxes are made of, zero while it is not known. It
	// is pinned where it is there, and neither removed nor let go, whoever asks for that:
	// no pod would start without it.
	Sandbox imageref.Reference
	// Untags says that the driver can remove one name of several of an image. Where it
	// cannot, a name goes only together with all names of its image.
	Untags bool
}

// Image is one wished image.
type Image struct {
	Ref imageref.Reference
	// Digest is "" while the image is Unresolved.
	Digest   digest.Digest
	Pin      bool
	Priority int32
	// Size is the expected download in bytes, 0 when unknown.
	Size int64
}

// Removal is one image to give up.
type Removal struct {
	// Name and Digest as the wish gives them.
	Name   string
	Digest string
	Since  time.Time
	// Names are what is to be removed from the runtime now, none while it has to wait.
	Names []imageref.Reference
	// InUse says that a container keeps the image for now.
	InUse bool
}

// Steps is what to do next.
type Steps struct {
	// Missing are images to bring, most important first.
	Missing []Image
	// Cached are images that are as wished, sorted by reference.
	Cached []Image
	// Unresolved are images for which no digest is known yet, sorted by reference. What the
	// runtime holds of them stays.
	Unresolved []Image
	// Asks are the tags that are this node's to resolve, sorted by reference.
	Asks []Ask
	// Removals are images to give up that are still there.
	Removals []Removal
	// Superseded are earlier digests that need not be kept any more.
	Superseded []imageref.Reference
	// Halves are images to give up of which the runtime may hold a part without a name.
	Halves []imageref.Reference
	// Release are names that are no longer looked after and stay as they are.
	Release []imageref.Reference
	// Pin are names that are to be pinned although nobody wishes them.
	Pin []imageref.Reference
	// Save and Drop bring the ledger up to date.
	Save []store.Entry
	Drop []string
}

// Lacking is how many wished images are not as they should be.
func (s *Steps) Lacking() int { return len(s.Missing) + len(s.Unresolved) }

// Next works out the next steps.
func Next(in Input) Steps {
	p := newPlanner(in)
	p.want()
	for i := range p.wished {
		p.image(&p.wished[i])
	}
	for _, r := range in.Desired.Spec.Remove {
		p.removal(r)
	}
	p.sandbox()
	p.leftovers()
	p.sort()
	return p.steps
}

func newPlanner(in Input) planner {
	return planner{
		Input: in, wished: wishedImages(in.Desired),
		wanted: map[imageref.Reference]bool{}, waiting: map[imageref.Reference]bool{}, seen: map[string]bool{},
	}
}

type planner struct {
	Input
	wished  []wished
	wanted  map[imageref.Reference]bool // names that must stay
	steps   Steps
	seen    map[string]bool             // ledger names dealt with
	waiting map[imageref.Reference]bool // names that are to go, now or later
}

type wished struct {
	Image
	keep int // earlier digests to keep
	// asks says that the tag is this node's to resolve, with token and every.
	asks  bool
	token string
	every time.Duration
}

// wishedImages are the images of the wish and those held until the wish is known.
// Entries that do not parse were not written by a release that this agent understands.
func wishedImages(d store.Desired) []wished {
	var out []wished
	seen := map[imageref.Reference]bool{}
	for _, list := range [][]v1alpha1.NodeImage{d.Spec.Images, d.Held} {
		for i := range list {
			img := &list[i]
			ref, err := imageref.Parse(img.Name)
			want := digest.Digest(img.Digest)
			asks := img.Resolve == v1alpha1.ResolveNode && ref.Tag() != ""
			if err != nil || seen[ref] || imageref.CheckDigest(want) != nil && (!asks || want != "") {
				continue
			}
			seen[ref] = true
			keep := wish.DefaultKeepPrevious
			if img.KeepPrevious != nil {
				keep = int(*img.KeepPrevious)
			}
			w := wished{keep: keep, asks: asks, token: img.RefreshToken, Image: Image{
				Ref: ref, Digest: want, Pin: img.Pin != v1alpha1.PinNever, Priority: img.Priority, Size: img.Size,
			}}
			if img.ResolveEvery != nil {
				w.every = img.ResolveEvery.Duration
			}
			out = append(out, w)
		}
	}
	return out
}

// want notes every name that must stay.
func (p *planner) want() {
	p.wanted[p.Sandbox] = true
	for i := range p.wished {
		w := &p.wished[i]
		w.Pin = w.Pin || w.Ref == p.Sandbox
		p.wanted[w.Ref] = true
		// What the tag names stays while it is not known what it should name.
		if d := cmp.Or(w.Digest, p.Inventory[w.Ref].Digest); d != "" {
			p.wanted[w.Ref.WithDigest(d)] = true
		}
		for _, d := range p.kept(w) {
			p.wanted[w.Ref.WithDigest(d)] = true
		}
	}
}

// earlier gives the digests other than the wished one that the ledger knows for a name,
// newest first. The digest cached last is one of them while a newer one is on its way.
func (p *planner) earlier(w *wished) []digest.Digest {
	e := p.Ledger[w.Ref.String()]
	var out []digest.Digest
	for _, d := range append([]string{e.Digest}, e.Previous...) {
		if d != "" && d != w.Digest.String() && !slices.Contains(out, digest.Digest(d)) {
			out = append(out, digest.Digest(d))
		}
	}
	return out
}

// kept gives the earlier digests that stay: as many as asked for, and until the wished
// one is there at least the one that pods start from now; all while none is known.
func (p *planner) kept(w *wished) []digest.Digest {
	earlier := p.earlier(w)
	n := w.keep
	switch {
	case w.Digest == "":
		n = len(earlier)
	case !p.cached(w):
		n = max(n, 1)
	}
	return earlier[:min(n, len(earlier))]
}

// cached says whether the runtime holds an image just as wished.
func (p *planner) cached(w *wished) bool {
	names := []imageref.Reference{w.Ref}
	if p.Names {
		names = append(names, w.Ref.WithDigest(w.Digest))
	}
	for _, name := range names {
		h, ok := p.Inventory[name]
		if !ok || !h.Complete || !p.pointsAt(name, w.Digest) {
			return false
		}
		if p.Pins && (h.Pinned != w.Pin || !h.Managed) {
			return false
		}
	}
	return true
}

// pointsAt says whether a name is an image with a digest. Where the runtime does not say,
// because the image has several digests in the repository, it is if the digest names the
// same image there.
func (p *planner) pointsAt(name imageref.Reference, d digest.Digest) bool {
	h := p.Inventory[name]
	if h.Digest != "" {
		return h.Digest == d
	}
	by, ok := p.Inventory[name.WithDigest(d)]
	return ok && h.ID != "" && by.ID == h.ID
}

func (p *planner) image(w *wished) {
	name := w.Ref.String()
	p.seen[name] = true
	before := p.Ledger[name]
	entry := before
	if entry.Resolved = aged(before.Resolved, w); entry.Resolved != nil {
		entry.Name = name
	}
	p.ask(w, entry.Resolved)
	switch {
	case w.Digest == "":
		p.steps.Unresolved = append(p.steps.Unresolved, w.Image)
	case !p.cached(w):
		p.steps.Missing = append(p.steps.Missing, w.Image)
	default:
		p.steps.Cached = append(p.steps.Cached, w.Image)
		entry.Name, entry.Digest, entry.Failure, entry.RemovedSince, entry.Lost = name, w.Digest.String(), nil, nil, nil
		entry.Previous = p.supersede(w)
	}
	if !equal(before, entry) {
		p.steps.Save = append(p.steps.Save, entry)
	}
}

// supersede has earlier digests removed that need not be kept, and gives those that are
// still there. One that a container uses, or may use, goes later.
func (p *planner) supersede(w *wished) (there []string) {
	kept := p.kept(w)
	for _, d := range p.earlier(w) {
		old := w.Ref.WithDigest(d)
		if _, ok := p.Inventory[old]; !ok {
			continue
		}
		switch {
		case !p.Desired.Known || slices.Contains(kept, d) || p.busy(old):
			p.waiting[old] = true // its tag names another digest now; it is not to be let go
		case p.wanted[old], !p.Untags && p.shared(old, []imageref.Reference{old}):
			continue
		default:
			p.steps.Superseded = append(p.steps.Superseded, old)
		}
		there = append(there, d.String())
	}
	return there
}

// sandbox has the sandbox image pinned as it is: nobody need wish it.
func (p *planner) sandbox() {
	if h, there := p.Inventory[p.Sandbox]; there && p.Pins && !h.Pinned {
		p.steps.Pin = append(p.steps.Pin, p.Sandbox)
	}
}

func (p *planner) busy(name imageref.Reference) bool {
	_, used := p.InUse[p.Inventory[name].ID]
	return used || p.UseUnknown
}

// removal carries out an entry of the present object, also while the rest of the wish is
// unknown: it is there because the controller decided so.
func (p *planner) removal(r v1alpha1.RemoveImage) {
	ref, err := imageref.Parse(r.Name)
	if err != nil || p.wanted[ref] {
		return
	}
	p.seen[r.Name] = true
	entry, d := p.Ledger[r.Name], digest.Digest(r.Digest)
	names := p.removable(ref, d, entry)
	if entry.RemovedSince != nil && entry.RemovedSince.Equal(r.Since.Time) && !slices.ContainsFunc(names, p.managed) {
		return
	}
	running := p.Running[r.Name]
	if len(names) == 0 && !running {
		p.steps.Save = append(p.steps.Save, store.Entry{Name: r.Name, RemovedSince: new(r.Since.Time)})
		p.half(ref.WithDigest(d))
		return
	}
	for _, n := range names {
		p.waiting[n] = true
	}
	removal := Removal{Name: r.Name, Digest: r.Digest, Since: r.Since.Time}
	removal.InUse = !p.UseUnknown && slices.ContainsFunc(names, p.busy)
	if !running && !p.UseUnknown && !removal.InUse {
		removal.Names = names
	}
	p.steps.Removals = append(p.steps.Removals, removal)
}

// managed says whether edgecache looks after a name. One that was removed and is managed
// again was named by an attempt that had not let go yet.
func (p *planner) managed(name imageref.Reference) bool { return p.Inventory[name].Managed }

// half gives up what was fetched of an image that never got a name, unless it may become
// another one: under another name, or as layers of another tag of the repository.
func (p *planner) half(name imageref.Reference) {
	_, there := p.Inventory[name]
	needed := slices.ContainsFunc(p.wished, func(w wished) bool { return w.Digest == name.Digest() }) ||
		slices.ContainsFunc(p.steps.Missing, func(i Image) bool { return i.Ref.Name() == name.Name() })
	if !there && !needed {
		p.steps.Halves = append(p.steps.Halves, name)
	}
}

// removable gives the names under which the runtime has an image that is to go, without
// those that another wished image needs. The digest of the removal may never have arrived:
// then the tag still names the one that was cached last. A tag that somebody else moved
// stays.
func (p *planner) removable(ref imageref.Reference, d digest.Digest, entry store.Entry) []imageref.Reference {
	candidates := []imageref.Reference{ref.WithDigest(d)}
	if h, ok := p.Inventory[ref]; ok && (h.Digest == "" || h.Digest == d || h.Digest.String() == entry.Digest) {
		candidates = append(candidates, ref)
	}
	for _, old := range append([]string{entry.Digest}, entry.Previous...) {
		if old != "" {
			candidates = append(candidates, ref.WithDigest(digest.Digest(old)))
		}
	}
	var names []imageref.Reference
	for _, c := range candidates {
		if _, there := p.Inventory[c]; there && !p.wanted[c] && !slices.Contains(names, c) {
			names = append(names, c)
		}
	}
	if p.Untags {
		return names
	}
	return slices.DeleteFunc(names, func(n imageref.Reference) bool { return p.shared(n, names) })
}

// shared says whether an image has names beside those that are to go.
func (p *planner) shared(name imageref.Reference, going []imageref.Reference) bool {
	id := p.Inventory[name].ID
	for other, h := range p.Inventory {
		if h.ID == id && !slices.Contains(going, other) {
			return true
		}
	}
	return false
}

// leftovers lets go of what neither the wish nor a removal speaks of. What edgecache looks
// after is read from the runtime, so that it is found even where the ledger was lost.
func (p *planner) leftovers() {
	if !p.Desired.Known {
		return
	}
	for name := range p.Ledger {
		if !p.seen[name] {
			p.steps.Drop = append(p.steps.Drop, name)
		}
	}
	for name, h := range p.Inventory {
		if h.Managed && !p.wanted[name] && !p.leaving(name) {
			p.steps.Release = append(p.steps.Release, name)
		}
	}
}

// leaving says whether a name is to be removed, now or when no container uses it.
func (p *planner) leaving(name imageref.Reference) bool {
	return slices.Contains(p.steps.Superseded, name) || p.waiting[name]
}

func (p *planner) sort() {
	s := &p.steps
	slices.SortFunc(s.Missing, func(a, b Image) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), imageref.Compare(a.Ref, b.Ref))
	})
	slices.SortFunc(s.Cached, func(a, b Image) int { return imageref.Compare(a.Ref, b.Ref) })
	slices.SortFunc(s.Unresolved, func(a, b Image) int { return imageref.Compare(a.Ref, b.Ref) })
	slices.SortFunc(s.Asks, func(a, b Ask) int { return imageref.Compare(a.Ref, b.Ref) })
	slices.SortFunc(s.Halves, imageref.Compare)
	slices.SortFunc(s.Superseded, imageref.Compare)
	s.Superseded = slices.Compact(s.Superseded)
	slices.SortFunc(s.Release, imageref.Compare)
	s.Release = slices.Compact(s.Release)
	slices.Sort(s.Drop)
}

func equal(a, b store.Entry) bool {
	return a.Name == b.Name && a.Digest == b.Digest && slices.Equal(a.Previous, b.Previous) && sameAnswer(a.Resolved, b.Resolved) &&
		(a.Failure == nil) == (b.Failure == nil) && (a.RemovedSince == nil) == (b.RemovedSince == nil) && (a.Lost == nil) == (b.Lost == nil)
}

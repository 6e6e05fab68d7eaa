package resolution

import (
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/internal/brief"
)

// target is what a reference stands for, and what was found of it. It is never changed in
// place.
type target struct {
	digest digest.Digest
	found  map[string]v1alpha1.ImageCheck // by platform
}

// seeded is what a status says. What it calls pullable was checked for the nodes of the time.
func seeded(known *v1alpha1.ImageStatus, needs []string) target {
	at := target{digest: digest.Digest(known.Digest)}
	if known.Check.Verdict == v1alpha1.VerdictPullable {
		at.found = forAll(needs, *known.Check)
	}
	return at
}

func forAll(platforms []string, check v1alpha1.ImageCheck) map[string]v1alpha1.ImageCheck {
	all := make(map[string]v1alpha1.ImageCheck, len(platforms))
	for _, p := range platforms {
		all[p] = check
	}
	return all
}

// with adds what was found.
func (at target) with(found map[string]v1alpha1.ImageCheck) target {
	if len(found) == 0 {
		return at
	}
	all := maps.Clone(at.found)
	if all == nil {
		all = map[string]v1alpha1.ImageCheck{}
	}
	maps.Copy(all, found)
	return target{at.digest, all}
}

// lacking gives the platforms that the digest was not found pullable for.
func (at target) lacking(platforms []string) []string {
	return slices.DeleteFunc(slices.Clone(platforms), func(p string) bool { return at.found[p].Verdict == v1alpha1.VerdictPullable })
}

// worst gives the worst that was found for platforms, nil for nothing bad, and those that
// nothing is known of.
func (at target) worst(platforms []string) (worst *v1alpha1.ImageCheck, unknown []string) {
	for _, p := range platforms {
		check, ok := at.found[p]
		switch {
		case !ok:
			unknown = append(unknown, p)
		case rank(check.Verdict) > 0 && (worst == nil || rank(check.Verdict) > rank(worst.Verdict)):
			worst = &check
		}
	}
	return worst, unknown
}

// sum gives what was found for platforms in one outcome.
func (at target) sum(platforms []string) v1alpha1.ImageCheck {
	if worst, _ := at.worst(platforms); worst != nil {
		return *worst
	}
	return v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}
}

func rank(v v1alpha1.Verdict) int {
	switch v {
	case v1alpha1.VerdictNotPullable:
		return 2
	case v1alpha1.VerdictInconclusive:
		return 1
	case v1alpha1.VerdictPullable:
	}
	return 0
}

func (i *Interest) enforces() bool {
	return i.Precheck == "" || i.Precheck == v1alpha1.PrecheckEnforce
}

// asksNobody says whether a reference is taken as it stands.
func (i *Interest) asksNobody(ref imageref.Reference) bool {
	return i.Precheck == v1alpha1.PrecheckOff && ref.Digest() != ""
}

// needs gives the platforms that an image is checked for.
func (i *Interest) needs(ref imageref.Reference) []string {
	if i.Precheck == v1alpha1.PrecheckOff || i.Platforms == nil {
		return nil
	}
	return i.Platforms(ref)
}

// passes says whether an owner is let through to a target. Who was found to have the right
// to the image is where nothing is wrong with it for its nodes, or it only wants to know.
// Without an answer from the registry a reference by digest goes to the nodes: they may
// reach it, and what they get is what was named.
func (i *Interest) passes(e *entry, ref imageref.Reference, at target) bool {
	switch {
	case i.asksNobody(ref):
		return true
	case !e.admitted:
		return ref.Digest() != "" && e.check != nil && (e.check.Verdict == v1alpha1.VerdictInconclusive || i.Precheck == v1alpha1.PrecheckWarn)
	}
	worst, unknown := at.worst(i.needs(ref))
	if !i.enforces() {
		return true
	}
	return len(unknown) == 0 && (worst == nil || worst.Verdict == v1alpha1.VerdictInconclusive)
}

// anyPasses says whether an owner of a key would be let through to a target. Callers hold mu.
func (t *Table) anyPasses(e *entry, ref imageref.Reference, at target) bool {
	for owner := range e.owners {
		if in := t.interest[owner]; in.passes(e, ref, at) {
			return true
		}
	}
	return false
}

// let lets an owner through to what a reference stands for, if nothing stands against that.
// Who was let through to a digest stays so, as nodes have it, unless it turns out that the
// right to it is missing. Callers hold mu.
func (t *Table) let(e *entry, ref imageref.Reference, in *Interest) {
	at := t.targets[ref]
	named := at.digest == "" && ref.Digest() != ""
	if named {
		at.digest = ref.Digest()
	}
	switch passes := at.digest != "" && in.passes(e, ref, at); {
	case passes && named:
		t.targets[ref] = at
		fallthrough
	case passes:
		e.owners[in.Owner] = at.digest
	case !e.admitted:
		e.owners[in.Owner] = ""
	}
}

// letAll lets through all that name a reference, and gives them. Callers hold mu.
func (t *Table) letAll(ref imageref.Reference) []wish.Owner {
	var owners []wish.Owner
	for key, e := range t.keys {
		if key.Ref != ref {
			continue
		}
		for owner := range e.owners {
			in := t.interest[owner]
			t.let(e, ref, &in)
		}
		owners = append(owners, e.list()...)
	}
	return owners
}

// through gives the digest that an owner's nodes are to hold, "" while it is not let through
// to what the reference stands for. Callers hold mu.
func (t *Table) through(e *entry, ref imageref.Reference, owner wish.Owner) digest.Digest {
	if d := e.owners[owner]; d == t.targets[ref].digest {
		return d
	}
	return ""
}

// checkOf gives the outcome of looking an image up as an owner's status has it: of the
// registry's answer, then of what was found for the owner's nodes. Callers hold mu.
func (t *Table) checkOf(e *entry, ref imageref.Reference, in *Interest, through digest.Digest) *v1alpha1.ImageCheck {
	switch {
	case in.asksNobody(ref):
		return nil
	case !e.sound():
		return e.check
	}
	worst, unknown := t.targets[ref].worst(in.needs(ref))
	if worst != nil {
		return worst
	}
	if through == "" && len(unknown) > 0 {
		return nil
	}
	return e.check
}

// asked gives the platforms for which the owners of a key have it checked, sorted, and
// whether one of them takes a digest whatever is found. Callers hold mu.
func (t *Table) asked(e *entry, ref imageref.Reference) (needs []string, lenient bool) {
	for owner := range e.owners {
		in := t.interest[owner]
		needs = append(needs, in.needs(ref)...)
		lenient = lenient || !in.enforces()
	}
	slices.Sort(needs)
	return slices.Compact(needs), lenient
}

// heldBack words that a tag was found to stand for something that is not brought to nodes.
func heldBack(check v1alpha1.ImageCheck, known, found digest.Digest) v1alpha1.ImageCheck {
	if known != "" {
		check.Message = brief.Text(fmt.Sprintf("it now stands for %s, which is held back: %s", found, check.Message), maxMessage)
	}
	return check
}

// maxMessage is the longest message of an ImageCheck, in bytes.
const maxMessage = 512

package nodes

import (
	"slices"

	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/controller/fleet"
)

// choice is what a wished image is to be on a node, and for whom.
type choice struct {
	digest digest.Digest // "" while the site has none
	owners []wish.Owner
	ask    inquiry
}

// inquiry is what the node's agent has to ask its registry; zero is nothing.
type inquiry struct {
	byNode bool
	fleet.Ask
}

// choose decides who says what a wished image stands for. The digest of the whole fleet
// counts where an owner that was found to have the right to it asks for that, then the
// site's. ok is false while there is neither.
func choose(in planInput, w *wish.Image, before *v1alpha1.NodeImage) (to choice, ok bool) {
	if w.Held != "" {
		return choice{digest: w.Held, owners: w.Owners, ask: asBefore(before)}, true
	}
	owners := admitted(in.targets, w)
	if d := in.targets.Target(w.Ref); d != "" && len(owners) > 0 {
		return choice{digest: d, owners: union(owners, w.ByNode)}, true
	}
	switch {
	case len(w.ByNode) == 0:
		return choice{}, false
	case w.Ref.Tag() == "":
		return choice{digest: w.Ref.Digest(), owners: w.ByNode}, true
	}
	to = choice{digest: in.atSite(w.Ref), owners: w.ByNode, ask: inquiry{byNode: true, Ask: in.ask(w.Ref)}}
	if to.digest == "" && before != nil {
		to.digest = digest.Digest(before.Digest) // which the site is about to take over
	}
	return to, true
}

// asBefore is for an image that is held as it is: nobody asks for it again.
func asBefore(before *v1alpha1.NodeImage) inquiry {
	if before == nil || before.Resolve != v1alpha1.ResolveNode {
		return inquiry{}
	}
	return inquiry{byNode: true, Ask: fleet.Ask{Token: before.RefreshToken}}
}

func union(a, b []wish.Owner) []wish.Owner {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// write sets what an entry has the agent ask.
func (q inquiry) write(entry *v1alpha1.NodeImage) {
	entry.Resolve, entry.RefreshToken, entry.ResolveEvery = "", "", nil
	if !q.byNode {
		return
	}
	entry.Resolve, entry.RefreshToken = v1alpha1.ResolveNode, q.Token
	if q.Every > 0 {
		entry.ResolveEvery = &metav1.Duration{Duration: q.Every}
	}
}

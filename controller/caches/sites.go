package caches

import (
	"maps"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/rollout"
)

// asks gives when nodes ask for the cache's tags again, nil where they do not.
func (r *Reconciler) asks(view *fleet.Cache) map[imageref.Reference]fleet.Ask {
	if !view.ByNode() {
		return nil
	}
	asks := map[imageref.Reference]fleet.Ask{}
	for _, ref := range view.References() {
		asks[ref] = r.View.Ask(ref)
	}
	return asks
}

// refreshTokens counts the nodes that were sent each refresh token, by image.
func refreshTokens(objects []*v1alpha1.NodeImageCache) map[string]map[string]int {
	tokens := map[string]map[string]int{}
	for _, o := range objects {
		for i := range o.Spec.Images {
			img := &o.Spec.Images[i]
			if img.Resolve != v1alpha1.ResolveNode {
				continue
			}
			if tokens[img.Name] == nil {
				tokens[img.Name] = map[string]int{}
			}
			tokens[img.Name][img.RefreshToken]++
		}
	}
	return tokens
}

// place notes where a node's tags are resolved, and what answers it owes.
func (t *tally) place(m *member, asks map[imageref.Reference]fleet.Ask) {
	if t.places == nil {
		t.places = map[imageref.Reference]map[string]bool{}
	}
	for _, s := range m.images {
		if !s.byNode {
			continue
		}
		if t.places[s.ref] == nil {
			t.places[s.ref] = map[string]bool{}
		}
		t.places[s.ref][m.site] = true
		if m.reach == fleet.Connected && m.owes(s.name, asks[s.ref].Token) {
			t.owing++
		}
	}
}

// owes says whether a node is still to answer a refresh token. One that has no entry for
// the image has no place for it, or waits for its turn, and asks when it has.
func (m *member) owes(image, token string) bool {
	entry := entryOf(m.object, image)
	if token == "" || entry == nil || entry.Resolve != v1alpha1.ResolveNode {
		return false
	}
	status := statusOf(m.object, image)
	switch {
	case entry.RefreshToken != token || status == nil:
		return true
	case status.Resolved != nil && status.Resolved.RefreshToken == token:
		return false
	case m.object.Status.ObservedGeneration < m.object.Generation:
		return true // what it says of a failure may be older than the token
	}
	return status.Resolved == nil || status.Resolved.Reason == ""
}

// sumUpSites adds to each image what it stands for in the sites of the selected nodes.
func (r *Reconciler) sumUpSites(f *facts) {
	for i := range f.images {
		img := &f.images[i]
		places := f.tally.places[img.ref]
		if !img.byNode || img.ref.Tag() == "" {
			continue
		}
		img.sites = &v1alpha1.ImageSites{Sites: int32(len(places))}
		digests := map[digest.Digest]bool{}
		for site := range places {
			d, drifted := r.Sites.Digest(site, img.ref)
			if d == "" {
				continue
			}
			img.sites.Resolved++
			digests[d] = true
			if drifted {
				img.sites.Drifted++
			}
			img.target = d
		}
		img.sites.Digests = int32(len(digests))
		if len(digests) > 1 || img.sites.Resolved < img.sites.Sites {
			img.target = ""
		}
	}
}

// withSites gives the targets of a rollout with those of the sites.
func (r *Reconciler) withSites(targets rollout.Targets, f *facts) rollout.Targets {
	all := maps.Clone(targets)
	for ref, places := range f.tally.places {
		for site := range places {
			if d, _ := r.Sites.Digest(site, ref); d != "" {
				all[rollout.Image{Ref: ref, Site: site}] = d
			}
		}
	}
	return all
}

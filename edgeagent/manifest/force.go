package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/edgeagent/store"
)

// force is what is in force: the good version of every ImageCache of the directory, and
// those that are gone from it.
type force struct {
	held map[wish.Owner]store.Manifest
	// gone are deleted, and stay until what that asks for is in the wish.
	gone map[wish.Owner]store.Manifest
	// unknown says that some file never had a good version.
	unknown bool
	// mistakes are what is wrong with the files, nil when nothing is.
	mistakes error
}

// take gives what is in force after the files were read. Of two files with the same
// ImageCache the first by name counts: the other one has a mistake, and its last good
// version stands in for the rest of it. While any file has a mistake nothing counts as gone.
func (f force) take(files []file) force {
	after := force{held: map[wish.Owner]store.Manifest{}, gone: map[wish.Owner]store.Manifest{}}
	var mistakes []error
	for _, file := range files {
		caches, err := after.good(file)
		if err != nil {
			mistakes = append(mistakes, err)
			caches = f.lastGood(file.name)
			after.unknown = after.unknown || len(caches) == 0
		}
		for _, m := range caches {
			owner := wish.OwnerOf(&m.Cache)
			if _, there := after.held[owner]; !there {
				after.held[owner] = m
			}
		}
	}
	after.mistakes = errors.Join(mistakes...)
	for owner, m := range f.held {
		if _, there := after.held[owner]; there {
			continue
		}
		if len(mistakes) > 0 { // it may stand in a file that cannot be read, under another name
			after.held[owner] = m
			continue
		}
		after.gone[owner] = m
	}
	for owner, m := range f.gone {
		if _, there := after.held[owner]; !there {
			after.gone[owner] = m
		}
	}
	return after
}

// good gives the ImageCaches of a file that has no mistake.
func (f force) good(file file) ([]store.Manifest, error) {
	if file.err != nil {
		return nil, file.err
	}
	caches, err := Parse(file.name, file.data)
	if err != nil {
		return nil, err
	}
	manifests := make([]store.Manifest, 0, len(caches))
	for _, ic := range caches {
		if other, taken := f.held[wish.OwnerOf(ic)]; taken {
			return nil, fmt.Errorf("%s: ImageCache %s stands in %s, too: remove it from one of the files", file.name, wish.OwnerOf(ic), other.File)
		}
		manifests = append(manifests, store.Manifest{File: file.name, Cache: *ic})
	}
	return manifests, nil
}

func (f force) lastGood(name string) []store.Manifest {
	var out []store.Manifest
	for _, owner := range slices.Sorted(maps.Keys(f.held)) {
		if m := f.held[owner]; m.File == name {
			out = append(out, m)
		}
	}
	return out
}

// whole says that every ImageCache is known. A directory that has none, and had none that
// anybody remembers, may be one that was not mounted.
func (f force) whole() bool { return !f.unknown && len(f.held)+len(f.gone) > 0 }

// caches are those in force, prepared for matching.
func (f force) caches() map[wish.Owner]*cache {
	out := make(map[wish.Owner]*cache, len(f.held))
	for owner, m := range f.held {
		compiled, _ := wish.Compile(&m.Cache) // what does not compile was not taken in
		out[owner] = &cache{Cache: compiled, spec: &m.Cache.Spec, token: m.Cache.Annotations[v1alpha1.AnnotationRequestedAt]}
	}
	return out
}

// unread names those whose pull secrets nobody can read.
func (f force) unread() []string {
	var names []string
	for owner, m := range f.held {
		if len(m.Cache.Spec.ImagePullSecrets) > 0 {
			names = append(names, string(owner))
		}
	}
	slices.Sort(names)
	return names
}

package intact

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// begin gives what is to be done in a boot, from what was stored last.
func begin(before store.Verification, found bool, bootID string) store.Verification {
	if found && before.BootID == bootID {
		before.Clean = false
		return before
	}
	unfinished := before.Due || !before.Clean
	return store.Verification{BootID: bootID, Due: !found || unfinished, Damaged: before.Damaged}
}

// next gives the image to read next: the newest that is older than the one read last. It
// leaves out what is not the agent's, what is not whole, and what is known to be damaged.
func next(held runtime.Inventory, v store.Verification) (store.Verified, bool) {
	newest := map[digest.Digest]store.Verified{}
	for _, h := range held {
		if !h.Complete || h.Digest == "" || !h.Managed && !h.Pinned {
			continue
		}
		candidate := store.Verified{Since: h.Since, Digest: h.Digest.String()}
		if have, ok := newest[h.Digest]; !ok || later(candidate, have) {
			newest[h.Digest] = candidate
		}
	}
	var first store.Verified
	for _, c := range newest {
		read := v.Through != nil && !later(*v.Through, c)
		if !read && !damaged(v, c.Digest) && later(c, first) {
			first = c
		}
	}
	return first, first.Digest != ""
}

// later says whether a comes before b in the order of reading.
func later(a, b store.Verified) bool {
	return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Digest, b.Digest)) > 0
}

func damaged(v store.Verification, d string) bool {
	return slices.ContainsFunc(v.Damaged, func(x store.Damaged) bool { return x.Digest == d })
}

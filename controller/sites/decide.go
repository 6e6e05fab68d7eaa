package sites

import (
	"cmp"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
)

// decide works out the digest anew and says whether it moved.
func (p *place) decide() bool {
	before := p.digest
	if p.digest == "" {
		p.digest = first(p.claims)
	}
	p.digest = newer(p.digest, p.claims)
	p.drifted, p.done = p.drifts(), p.digest != "" && newer(p.digest, p.claims) == p.digest
	return p.digest != before
}

// first gives the digest for a site that has none: what stands in the specs, else what the
// agents found.
func first(claims map[string]claim) digest.Digest {
	written := best(claims, func(c claim) digest.Digest { return c.wished })
	return cmp.Or(written, best(claims, func(c claim) digest.Digest { return c.found }))
}

// best gives one of several digests: answers to the present token before others, then the
// one of most nodes that are ready, as a rollout leaves the others behind, then of most nodes,
// then the smallest. "" does not count.
func best(claims map[string]claim, of func(claim) digest.Digest) digest.Digest {
	nodes, ready, answers := map[digest.Digest]int{}, map[digest.Digest]int{}, map[digest.Digest]int{}
	for _, c := range claims {
		nodes[of(c)]++
		if c.ready {
			ready[of(c)]++
		}
		if c.token != "" && c.answered == c.token {
			answers[c.found] = 1
		}
	}
	delete(nodes, "")
	all := slices.SortedFunc(maps.Keys(nodes), func(a, b digest.Digest) int {
		return cmp.Or(cmp.Compare(answers[b], answers[a]), cmp.Compare(ready[b], ready[a]), cmp.Compare(nodes[b], nodes[a]), cmp.Compare(a, b))
	})
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// newer gives what an agent found while the kept digest was wished, if it was asked to find
// out; else the kept digest. Of several agents the one on the first node by name counts.
func newer(kept digest.Digest, claims map[string]claim) digest.Digest {
	found, by := kept, ""
	for node, c := range claims {
		fresh := c.observed && c.newer && c.wished == kept && c.answered == c.token && c.found != "" && c.found != kept
		if kept == "" || !fresh || by != "" && by < node {
			continue
		}
		if c.again || c.token != "" && !answers(claims, kept, c.token) {
			found, by = c.found, node
		}
	}
	return found
}

// answers says whether a digest was some agent's answer to a refresh token. Who joins a
// site later, and finds another, does not move it.
func answers(claims map[string]claim, d digest.Digest, token string) bool {
	for _, c := range claims {
		if c.found == d && c.answered == token {
			return true
		}
	}
	return false
}

// drifts says whether some agent that knows the kept digest found another.
func (p *place) drifts() bool {
	for _, c := range p.claims {
		if c.observed && c.wished == p.digest && c.found != "" && c.found != p.digest {
			return true
		}
	}
	return false
}

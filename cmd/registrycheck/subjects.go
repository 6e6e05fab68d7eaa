package main

import (
	"slices"

	"github.com/containerd/platforms"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/extract"
	"edgecache.dev/registrycheck/keychain"
)

// subject is one thing to check: an image, as all those pull it who have the same
// credentials.
type subject struct {
	reference string
	sources   []extract.Source
	platforms []platforms.Platform
	// every says that all platforms count which the image offers.
	every bool
	keys  keychain.Keychain
}

// subjects joins the findings that are one question. Their order is that of the findings.
type subjects struct {
	all   []*subject
	byKey map[string]*subject
}

// add adds a finding. who tells apart those who pull with different credentials.
func (s *subjects) add(f extract.Finding, who string, keys keychain.Keychain) *subject {
	key := spelling(f.Image) + "\x00" + who
	if known := s.byKey[key]; known != nil {
		known.sources = append(known.sources, f.Source)
		return known
	}
	if s.byKey == nil {
		s.byKey = map[string]*subject{}
	}
	one := &subject{reference: f.Image, sources: []extract.Source{f.Source}, keys: keys}
	s.byKey[key] = one
	s.all = append(s.all, one)
	return one
}

// spelling gives the one spelling of a reference: nginx is docker.io/library/nginx:latest.
func spelling(reference string) string {
	ref, err := imageref.Parse(reference)
	if err != nil {
		return reference
	}
	return ref.String()
}

// want adds platforms, each once.
func (s *subject) want(more ...platforms.Platform) {
	for _, p := range more {
		if !slices.ContainsFunc(s.platforms, func(q platforms.Platform) bool { return platforms.Format(p) == platforms.Format(q) }) {
			s.platforms = append(s.platforms, p)
		}
	}
}

func (s *subject) request(o *options) registrycheck.Request {
	r := registrycheck.Request{
		Reference: s.reference, Source: s.sources[0].String(), Keychain: s.keys,
		Full: o.full, Signatures: o.signatures,
	}
	if !s.every {
		r.Platforms = s.platforms
	}
	return r
}

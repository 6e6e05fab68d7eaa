// Package imageref gives every part of edgecache one spelling of an image reference.
//
// It owns the mapping from what a user writes ("nginx", "registry.example/app:v1",
// "app@sha256:…") to the canonical form that containerd, CRI and the kubelet use as the
// image's name. It never talks to a registry and never guesses a digest.
//
// Invariants:
//
//  1. Parse(r.String()) == r for every Reference r that Parse returned.
//  2. Two spellings of one image ("nginx", "docker.io/library/nginx:latest") give equal,
//     comparable values, so a Reference is a map key.
//  3. Where a tag and a digest are given the digest wins and the tag is dropped, as
//     containerd's CRI plugin does (distribution.ParseDockerRef).
//
// The grammar is github.com/distribution/reference; what is narrower here: sha256 digests
// only (ImageContent objects are named after them) and at most MaxLength characters.
package imageref

// Package resolve turns an image reference into a digest and what stands behind it.
//
// It owns the questions "which digest is this tag now" (Digest) and "which platforms,
// layers and sizes has it" (Resolve), and the judgement of what a failure means for a
// pull (Error): wrong for good, or worth another try.
//
// It never downloads layers, never writes anywhere, never sleeps on a registry's
// request (see Error.RetryAfter) and never trusts a digest that it did not compute, with
// one exception: Digest believes the header of a HEAD answer, which costs no quota. Who
// acts on a new digest calls Resolve, which reads the bytes.
//
// Invariants:
//
//  1. Every manifest and configuration has the digest and the size by which it was
//     asked for, or Resolve fails with DigestMismatch.
//  2. What Resolve returns fits into an ImageContent: at most 32 platforms of at most
//     256 layers, sha256 digests only. Of more platforms the first 32 of the index are
//     kept and Image.Omitted counts the others.
//  3. Only Linux platforms are there; attestations and other artifacts in an index are
//     not platforms. Resolve fails with PlatformMissing when nothing is left.
//  4. An index is followed into one nested level, at most 1,000 entries and 8 nested
//     indexes in all; beyond that it is refused.
//  5. Every error is an *Error whose text fits a status field and holds no secret.
//
// Order of attempts: the registry's mirrors, then the registry. At each, every
// credential that matches, then no other: like the kubelet, an image is asked for
// anonymously only where no credential matches it. The next credential is tried when one
// is refused, is over its quota or does not see the image; the next endpoint after any
// failure but DigestMismatch. Where several fail, the registry's own answer counts.
//
// Requests: Digest costs one HEAD. Resolve costs one GET for what the reference names,
// then for an image its configuration, for an index a manifest and a configuration for
// each platform. A new session costs a log-in besides: see package access. Docker Hub
// counts each GET of a manifest as a pull, a HEAD not.
//
// All methods may be called from many goroutines.
package resolve

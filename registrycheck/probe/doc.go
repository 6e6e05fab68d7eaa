// Package probe asks a registry whether the bytes of a blob are there.
//
// It owns the ways to ask: Exists, which costs one HEAD and, where that says no, a GET of
// one byte; and Read, which downloads the blob and compares it with its digest. It never
// decides what a failure means (package resolve does) and keeps nothing.
//
// HEAD alone is no proof: registries that cache others answer 404 for what they would
// fetch on GET, and stores sign their redirects for GET only. A GET of one byte is what
// runtimes would do, so its answer counts.
//
// Failure model: errors are those of access.Session, and what resolve.Mismatch and
// resolve.Invalid make, for resolve.Ask to judge. Read fails when nothing arrives for
// Stall. Memory is bounded whatever the blob holds: it is streamed.
package probe

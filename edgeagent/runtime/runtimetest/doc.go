// Package runtimetest holds the one suite that every driver of package runtime passes:
// Conformance runs the promises of the contract against a real registry over HTTP, by
// capability, and counts the bytes that the registry sends.
//
// A driver's own tests hold what is particular to it. This package is for tests only and
// is never imported by the product.
package runtimetest

// Package fetchtest is a registry and images for tests of whatever fetches images.
//
// The Registry is go-containerregistry's in-process one behind a handler that serves byte
// ranges, counts what it sends, and misbehaves on demand: it cuts, stalls and slows
// connections, ignores ranges, refuses, asks for credentials, redirects and lies.
// Images are random but the same for the same seed.
//
// It is for tests only and never imported by the product.
package fetchtest

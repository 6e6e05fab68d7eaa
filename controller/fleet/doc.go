// Package fleet is the controller's view of the fleet that its reconcilers share: the
// ImageCaches prepared for matching, and which nodes can be reached.
//
// It owns no API object and writes none; informers' event handlers feed it. Everything in
// it can be rebuilt from the API server at any time: the refresh tokens of tags that nodes
// resolve, which outlive the ImageCaches that asked, from the specs of nodes.
//
// Concurrency: a View and a LeaseClock may be used from any goroutine.
package fleet

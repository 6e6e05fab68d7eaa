// Package explain puts into words where a pod went and why: what its images need on a node until they are ready, and
// what the nodes that were not chosen would have needed.
//
// It owns the words, and the decision what deserves an Event. It is pure: it holds no state, asks nobody and changes
// nothing. It works on the very estimates that scores are made of, so that what is told cannot differ from what was done.
package explain

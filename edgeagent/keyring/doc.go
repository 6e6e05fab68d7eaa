// Package keyring opens the sealed pull credentials of the wish, for the image that needs
// one and for nothing else.
//
// It owns the node's private key in memory and the choice of logins for an image on a host.
// It never stores what it opened, never pulls, and never decides which credentials an image
// has: the controller does.
//
// Invariants:
//
//  1. A credential goes to the registry of the image alone, not to a mirror of it, and only
//     if what is sealed inside says that it is for that repository: the list of an image's
//     credentials is not sealed, and who changes it learns nothing.
//  2. A credential is opened when a registry asks who is there, not before.
//  3. Nothing that is said of a credential tells more than its id.
//
// Failure model: a credential that cannot be opened is left out, and Trouble says so until
// another one stands in its place. The pull goes on with what there is.
//
// Concurrency: a Ring may be used from any goroutine.
package keyring

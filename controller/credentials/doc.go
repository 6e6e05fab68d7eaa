// Package credentials knows what ImageCaches' pull secrets hold, for sealing it to nodes.
//
// It owns what was read of Secrets, in memory only, and when they are read again. It lists
// and watches no Secret: each one that an ImageCache names is read by itself, again every
// few minutes. It writes nothing; controller/nodes seals what an image on a node needs.
//
// Invariants: nothing in it prints a credential. A Secret that was not read yet is unknown,
// not empty: what nodes have been given for it stays.
//
// Failure model: a Secret that cannot be read is tried again with backoff; what was read
// before holds until then.
//
// Concurrency: a Vault may be used from any goroutine.
package credentials

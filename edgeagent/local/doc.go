// Package local is what an agent tells on its own node, to whoever stands before the box:
// how things stand, as a document, by HTTP over a socket in the state directory.
//
// It owns the document and its forms (JSON, YAML, tables), the socket, and the client that
// asks. It decides nothing and knows no runtime, store or server: who runs the agent gives
// it a function that tells how things stand.
//
// Invariants:
//
//  1. An answer needs no network and no runtime, and waits for neither.
//  2. Root and the user that runs the agent may ask; nobody else. Nothing that is told is secret
//     all the same: no credential, token or URL.
//  3. The document's fields keep their meaning; later releases add some.
//
// Failure model: an agent that does not run leaves a socket that nobody answers, and the
// client says so. Where no socket can be made in the state directory, as it is read-only, the
// agent answers on one without a file, to the same people. One that cannot be made either is an
// error for who runs the agent to tell: the agent works without.
package local

// Package seal closes pull credentials so that one node alone can open them, and opens them.
//
// It owns the sealed form, which controller and agent share: age (X25519) around a JSON
// document with the credential, what it is for and whom it is for. It never decides who
// may have which credential, keeps no file and talks to nobody.
//
// Invariants:
//
//  1. What is sealed says inside which registry it is for and for which Node: Open refuses
//     an entry that was moved to another match or another Node, whatever stands beside it.
//  2. Sealed bytes fit into the API field that carries them: Seal refuses what is too long,
//     Open does not look at what is longer.
//  3. No type prints a secret, whatever the verb or encoder. Only Key.Text and the fields
//     of Auth hand one out. fmt calls no methods on unexported fields, so an Auth must not
//     be kept in one.
//  4. Errors repeat nothing of what was sealed, and nothing of a key.
//
// age authenticates the content but not the sender: who knows a node's public key, which is
// no secret, can seal to it. Who may write the entry is the API server's to say.
//
// Failure model: every failure is an error that says which step failed; ErrOtherKey alone is
// worth telling apart, as sealing anew mends it.
package seal

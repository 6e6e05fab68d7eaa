// Package keychain finds the credentials that belong to an image, as the kubelet would.
//
// It owns the reading of pull Secrets (kubernetes.io/dockerconfigjson and
// kubernetes.io/dockercfg) and of docker's config.json, and the choice of the entries
// that match an image: every one, most specific first. It never contacts a registry,
// never runs a credential helper and never decides which of the credentials is right:
// the caller tries them in order, and tries none (anonymous) only when nothing matches.
//
// Invariants:
//
//  1. A Keychain never changes; its methods may be called from many goroutines.
//  2. Order depends on the input alone: patterns in descending byte order, so that a
//     longer path comes before a shorter one and names before stars; entries with one
//     pattern in the order of their Secrets.
//  3. No method of Keychain or Credential prints a secret, whatever the verb or encoder.
//     Only Credential.Authorization hands it out. Errors repeat no value of the input.
//
// Rules that follow the kubelet 1.37 (pkg/credentialprovider):
//
//   - A pattern is host[:port][/path]. The host may be a glob for each label, the port
//     must be equal, the path is a plain prefix ("/team" also covers "/teamwork").
//   - http://, https:// and a leading /v1/ or /v2/ of the path do not count.
//   - For docker.io, an entry for index.docker.io serves when nothing else matches.
//   - auth, where present, wins over username and password.
//
// Where it differs, each time on purpose:
//
//   - A broken Secret is reported and left out; the kubelet then pulls nothing at all.
//   - identitytoken and registrytoken are read; the kubelet ignores them in Secrets.
//   - An entry for registry-1.docker.io, the host that really serves docker.io, counts
//     as index.docker.io does.
//   - Credentials of index.docker.io are not offered to hosts without a dot or a port,
//     such as localhost: they belong to another server.
//
// Failure model: a broken Secret gives an error beside a Keychain of all others.
package keychain

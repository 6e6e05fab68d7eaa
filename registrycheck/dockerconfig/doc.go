// Package dockerconfig gives the logins that docker, podman and their credential helpers
// keep for the user who runs a check.
//
// It owns where such configurations lie, and the running of credential helpers
// (docker-credential-<name> get), once for each registry that images name. It never stores a
// login, never lists what a helper holds, and reads nothing of a configuration but auths,
// credsStore and credHelpers.
//
// Invariants:
//
//  1. A helper is asked only for registries that the caller names, and gives logins for
//     those alone.
//  2. No login, and nothing that a helper prints, is in an error.
//  3. A helper that hangs is ended after 30 s, or with the context.
//
// Failure model: what cannot be read, and each helper that fails, is an error beside the
// logins of all others. A helper that has no login for a registry is no failure.
package dockerconfig

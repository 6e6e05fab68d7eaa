// Package credentialprovider asks the kubelet's credential provider plugins for pull
// credentials: programs of the node that turn its cloud identity, say, into a login.
//
// It reads the kubelet's own configuration (CredentialProviderConfig) and speaks the
// kubelet's protocol (CredentialProviderRequest and -Response), with its matching, its
// caching and its limit of a minute.
//
// Invariants: one run of a plugin at a time, and none while what it said last is good for
// the image. What plugins give is kept in memory only, and is in no error and no log;
// neither is what they write to their standard error.
//
// It never makes service account tokens: a plugin that must have one is skipped, and
// Providers.Skipped says so. One that can do without is asked without.
//
// Failure model: a configuration that is wrong, or names a program that is not there, is an
// error of Load; Configured does without plugins then, and tries again each minute. A plugin that fails gives an error beside what others gave.
package credentialprovider

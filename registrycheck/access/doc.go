// Package access is how a registry is reached: which hosts, over which wire, as whom.
//
// It owns the settings of registries (mirrors, trusted CAs, plain HTTP, proxies), the
// HTTP connections made with them, and the sessions: connections that have logged in to
// one repository with one credential and are used again for the next request.
//
// It never reads what a manifest says, never chooses between credentials or endpoints
// and never decides what a failure means: its callers do.
//
// Invariants:
//
//  1. Plain HTTP is spoken only with hosts for which the settings say so, and with
//     loopback when the registry itself is loopback. A redirect or a token server does
//     not change that.
//  2. A credential goes to the host of the session it was given for and to the token
//     server that host names, to nobody else.
//  3. At most MaxRequestsPerHost requests to one host run at a time, over all sessions.
//     A request that waits to be repeated holds no place.
//  4. No answer is read beyond MaxBodyBytes, an error answer not beyond 32 KiB.
//  5. Errors hold no user-info, query, token or password in their text.
//  6. A host that a registry names, as token server or by redirect, is connected to only
//     where package dialguard allows it, unless the user configured that host. Through a
//     proxy it is for the proxy to say.
//  7. Nothing outlives its context: waiting, repeating and reading end with it.
//
// All methods may be called from many goroutines.
//
// Failure model: short disturbances (reset connections, 5xx) are tried three times
// within about a second; being told to wait (429, Retry-After) is not waited for but
// reported as *BusyError, because only the caller knows what else it could do.
//
// One limit comes from go-containerregistry: a token server at a private IP address that
// is not the registry's own host and port is refused. Name it in DNS instead.
package access

package edgeagent

import (
	"context"
	"time"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
)

// key is the node's public key, for the status; nil where there is none.
func (a *Agent) key() *v1alpha1.NodeKey {
	if a.options.Keyring == nil {
		return nil
	}
	return new(a.options.Keyring.Key())
}

// hearCredentials tells the keyring of the wish. Images that were refused are tried again
// at once where they have other credentials now: somebody has mended a Secret, and waits.
func (a *Agent) hearCredentials() {
	if a.options.Keyring == nil {
		return
	}
	for _, name := range a.options.Keyring.Hear(a.desired) {
		if q := a.inquiries[name]; q != nil && mendable(q.reason) {
			q.next = time.Time{}
		}
		failure := a.ledger[name].Failure
		t := a.attempts[name]
		if t == nil || t.cancel != nil || failure == nil {
			continue
		}
		if mendable(failure.Reason) {
			t.next = time.Time{}
		}
	}
}

// mendable says whether other credentials may help.
func mendable(reason string) bool {
	return fetch.Reason(reason) == fetch.Unauthorized || fetch.Reason(reason) == fetch.NotFound
}

// noteCredentials takes note of credentials that could not be opened or found.
func (a *Agent) noteCredentials(ctx context.Context) {
	if a.options.Keyring != nil {
		a.trouble.note(ctx, withCredentials, a.options.Keyring.Trouble(), "Not all pull credentials are there, pulling without those")
	}
}

package edgeagent

import (
	"errors"
	"testing"
	"time"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// TestVerdict: how soon an image is tried again is for the class of what went wrong to say.
func TestVerdict(t *testing.T) {
	t.Parallel()
	of := func(reason fetch.Reason, status int) error {
		return &fetch.Error{Reason: reason, Status: status, Err: errors.New("no")}
	}
	tests := map[string]struct {
		err         error
		reason      fetch.Reason
		first, last time.Duration // without jitter
	}{
		"network":                {of(fetch.NetworkError, 0), fetch.NetworkError, transientFirst, transientLast},
		"certificate or clock":   {of(fetch.TLSError, 0), fetch.TLSError, transientFirst, transientLast},
		"no space":               {of(fetch.InsufficientDisk, 0), fetch.InsufficientDisk, transientFirst, transientLast},
		"the runtime":            {errors.New("gone"), fetch.RuntimeError, transientFirst, transientLast},
		"registry overloaded":    {of(fetch.RegistryError, 503), fetch.RegistryError, transientFirst, transientLast},
		"registry refuses":       {of(fetch.RegistryError, 400), fetch.RegistryError, permanentFirst, permanentLast},
		"not found":              {of(fetch.NotFound, 404), fetch.NotFound, permanentFirst, permanentLast},
		"auth":                   {of(fetch.Unauthorized, 401), fetch.Unauthorized, permanentFirst, permanentLast},
		"corrupt":                {of(fetch.DigestMismatch, 0), fetch.DigestMismatch, permanentFirst, permanentLast},
		"platform":               {of(fetch.PlatformMissing, 0), fetch.PlatformMissing, permanentFirst, permanentLast},
		"tag moved":              {&runtime.Error{Reason: runtime.TagMoved, Err: errors.New("moved")}, runtime.TagMoved, permanentFirst, permanentLast},
		"as the registry wishes": {&fetch.Error{Reason: fetch.RateLimited, Status: 429, RetryAfter: time.Hour, Err: errors.New("slow down")}, fetch.RateLimited, time.Hour, time.Hour},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for failures, want := range map[int32]time.Duration{1: tc.first, 100: tc.last} {
				reason, wait := verdict(tc.err, failures)
				if reason != string(tc.reason) || wait < want || wait > want+want/4 {
					t.Errorf("after %d failures: %s in %s, want %s in %s and up to a quarter more", failures, reason, wait, tc.reason, want)
				}
			}
		})
	}
}

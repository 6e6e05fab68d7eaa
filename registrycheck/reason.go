package registrycheck

import "edgecache.dev/api/v1alpha1"

// Reason says in one word why a verdict is what it is. Reasons do not change between
// releases; docs/registrycheck.md lists them with what to do.
type Reason string

// The reason of Pullable.
const (
	ReasonAvailable Reason = "Available" // all of it is there
)

// Reasons of NotPullable: somebody has to change the image, its name or the rights.
const (
	ReasonInvalidReference     Reason = v1alpha1.ReasonInvalidReference // the name cannot be one, or the registry says so
	ReasonNotFound             Reason = v1alpha1.ReasonNotFound         // no such repository, tag or digest
	ReasonUnauthorized         Reason = v1alpha1.ReasonUnauthorized     // credentials missing or refused, or there is no such image
	ReasonBlobMissing          Reason = "BlobMissing"                   // the manifest is there, a part that it names is not
	ReasonDigestMismatch       Reason = v1alpha1.ReasonDigestMismatch   // bytes differ from their digest or size
	ReasonInvalidImage         Reason = v1alpha1.ReasonInvalidImage     // malformed
	ReasonNotAnImage           Reason = "NotAnImage"                    // a chart, signature or other artifact
	ReasonTooLarge             Reason = "TooLarge"                      // manifest or configuration beyond what runtimes read
	ReasonUnsupportedMediaType Reason = "UnsupportedMediaType"          // of a kind that the runtime refuses
	ReasonPlatformMissing      Reason = v1alpha1.ReasonPlatformMissing  // the index has nothing for the platform
	ReasonPlatformMismatch     Reason = "PlatformMismatch"              // it can be pulled, but its programs are for another platform
)

// Reasons of Inconclusive: asking again may give an answer.
const (
	ReasonRateLimited   Reason = v1alpha1.ReasonRateLimited   // too many requests or pulls
	ReasonRegistryError Reason = v1alpha1.ReasonRegistryError // the registry fails, or something else answers in its place
	ReasonStorageError  Reason = "StorageError"               // the host to which the registry redirects for its data fails
	ReasonNetworkError  Reason = v1alpha1.ReasonNetworkError  // no connection, or it broke
	ReasonDNSError      Reason = "DNSError"                   // a host is not known, or DNS does not answer
	ReasonProxyError    Reason = "ProxyError"                 // the HTTP proxy is not reached or refuses
	ReasonTimeout       Reason = "Timeout"                    // no answer in time
	ReasonTLSError      Reason = v1alpha1.ReasonTLSError      // certificate not trusted, clock wrong, or no TLS spoken
	ReasonCancelled     Reason = "Cancelled"                  // the check was ended
)

// verdicts gives the one verdict that each reason stands for.
var verdicts = map[Reason]Verdict{
	ReasonAvailable: Pullable,

	ReasonInvalidReference:     NotPullable,
	ReasonNotFound:             NotPullable,
	ReasonUnauthorized:         NotPullable,
	ReasonBlobMissing:          NotPullable,
	ReasonDigestMismatch:       NotPullable,
	ReasonInvalidImage:         NotPullable,
	ReasonNotAnImage:           NotPullable,
	ReasonTooLarge:             NotPullable,
	ReasonUnsupportedMediaType: NotPullable,
	ReasonPlatformMissing:      NotPullable,
	ReasonPlatformMismatch:     NotPullable,

	ReasonRateLimited:   Inconclusive,
	ReasonRegistryError: Inconclusive,
	ReasonStorageError:  Inconclusive,
	ReasonNetworkError:  Inconclusive,
	ReasonDNSError:      Inconclusive,
	ReasonProxyError:    Inconclusive,
	ReasonTimeout:       Inconclusive,
	ReasonTLSError:      Inconclusive,
	ReasonCancelled:     Inconclusive,
}

// Verdict gives the verdict that the reason stands for; "" for none of these reasons.
func (r Reason) Verdict() Verdict { return verdicts[r] }

// Verdict is the outcome of a check.
type Verdict = v1alpha1.Verdict

// Verdicts.
const (
	Pullable     = v1alpha1.VerdictPullable
	NotPullable  = v1alpha1.VerdictNotPullable
	Inconclusive = v1alpha1.VerdictInconclusive
)

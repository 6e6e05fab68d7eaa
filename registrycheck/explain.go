package registrycheck

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/resolve"
)

// explain gives the finding of a failed question.
func explain(err error) Finding {
	e, ok := errors.AsType[*resolve.Error](err)
	switch {
	case !ok && errors.Is(err, context.DeadlineExceeded):
		return found(ReasonTimeout, "time for the check ran out", "allow it more")
	case !ok && errors.Is(err, context.Canceled):
		return found(ReasonCancelled, "the check was ended", "")
	case !ok:
		return found(ReasonRegistryError, access.Scrub(err.Error()), "")
	}
	f := found(refine(e), e.Problem, strings.Replace(e.Fix, "it is tried again later", "try again later", 1))
	f.URL, f.RetryAfter = e.URL, e.RetryAfter
	return f
}

// explainPart is explain for what a manifest or index names: that it is not there does
// not mean that the image is not.
func explainPart(err error) Finding {
	f := explain(err)
	if f.Reason == ReasonNotFound {
		f.Reason = ReasonBlobMissing
	}
	return f
}

// refine says more closely what a look-up's reason leaves open.
func refine(e *resolve.Error) Reason {
	elsewhere := e.Host != e.Endpoint
	switch e.Reason {
	case v1alpha1.ReasonNotFound:
		if elsewhere || strings.Contains(e.URL, "/"+string(access.Blobs)+"/") {
			return ReasonBlobMissing
		}
	case v1alpha1.ReasonRegistryError:
		if _, ok := errors.AsType[*access.StatusError](e.Err); ok && elsewhere {
			return ReasonStorageError
		}
	case v1alpha1.ReasonNetworkError:
		return refineNetwork(e.Err)
	case v1alpha1.ReasonInvalidImage:
		return refineImage(e.Err)
	}
	return Reason(e.Reason)
}

func refineNetwork(err error) Reason {
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "proxyconnect" ||
		strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired)) {
		return ReasonProxyError
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return ReasonDNSError
	}
	if errors.Is(err, context.Canceled) {
		return ReasonCancelled
	}
	timeout, ok := errors.AsType[net.Error](err)
	if errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return ReasonTimeout
	}
	return ReasonNetworkError
}

func refineImage(err error) Reason {
	_, tooLarge := errors.AsType[*access.TooLargeError](err)
	switch {
	case tooLarge, errors.Is(err, resolve.ErrTooLarge):
		return ReasonTooLarge
	case errors.Is(err, resolve.ErrSchema1):
		return ReasonUnsupportedMediaType
	case errors.Is(err, resolve.ErrNotImage):
		return ReasonNotAnImage
	}
	return ReasonInvalidImage
}

package cri

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// clues are texts in the errors of runtimes and what they mean, the more telling first:
// containerd says "not found" of many things.
var clues = []struct {
	text   string
	reason runtime.Reason
}{
	{"no match for platform", fetch.PlatformMissing},
	{"no image found in image index for architecture", fetch.PlatformMissing}, // CRI-O
	{"no matching manifest for", fetch.PlatformMissing},                       // Docker
	{"unexpected commit digest", fetch.DigestMismatch},
	{"digest did not match", fetch.DigestMismatch}, // CRI-O
	{"failed size validation", fetch.DigestMismatch},
	{"no space left on device", fetch.InsufficientDisk},
	{"toomanyrequests", fetch.RateLimited},
	{"429 too many requests", fetch.RateLimited},
	{"too many requests", fetch.RateLimited},
	{"401 unauthorized", fetch.Unauthorized},
	{"403 forbidden", fetch.Unauthorized},
	{"authorization failed", fetch.Unauthorized},
	{"authentication required", fetch.Unauthorized},
	{"unauthorized", fetch.Unauthorized},
	{"access denied", fetch.Unauthorized},
	{"denied:", fetch.Unauthorized},
	{"x509:", fetch.TLSError},
	{"tls:", fetch.TLSError},
	{"server gave http response to https client", fetch.TLSError},
	{"manifest unknown", fetch.NotFound},
	{"name unknown", fetch.NotFound},
	{"404 not found", fetch.NotFound},
	{"500 internal server error", fetch.RegistryError},
	{"502 bad gateway", fetch.RegistryError},
	{"503 service unavailable", fetch.RegistryError},
	{"504 gateway", fetch.RegistryError},
	{"connection refused", fetch.NetworkError},
	{"connection reset", fetch.NetworkError},
	{"no such host", fetch.NetworkError},
	{"network is unreachable", fetch.NetworkError},
	{"no route to host", fetch.NetworkError},
	{"i/o timeout", fetch.NetworkError},
	{"timeout awaiting response", fetch.NetworkError},
	{"unexpected eof", fetch.NetworkError},
	{"short read", fetch.NetworkError},
	{": eof", fetch.NetworkError},
	{"not found", fetch.NotFound},
}

// classify reads the reason out of what a runtime says, and takes out what must not be
// shown: URLs, whose queries may be signed, and the secrets of the call.
func classify(doing string, err error, secrets ...string) error {
	s := status.Convert(err)
	reason := reasonOf(s.Code(), s.Message())
	text := urls.ReplaceAllString(s.Message(), "$1$2")
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	wrapped := fmt.Errorf("%s: %w", doing, errors.New(text))
	if reason == fetch.RegistryError {
		return &fetch.Error{Reason: reason, Status: serverError, Err: wrapped}
	}
	if reason == fetch.RuntimeError || reason == fetch.InsufficientDisk {
		return &runtime.Error{Reason: reason, Err: wrapped}
	}
	return &fetch.Error{Reason: reason, Err: wrapped}
}

// serverError stands for the statuses that clues take for a registry's own trouble.
const serverError = 503

// urls finds URLs: scheme, user-info, host, and the rest.
var urls = regexp.MustCompile(`(https?://)(?:[^/\s"'@]*@)?([^/\s"'?]*)[^\s"']*`)

// socketGone finds what gRPC says when the runtime ends or is away.
var socketGone = regexp.MustCompile(`dial unix|closing|error reading from server|connection error`)

func reasonOf(code codes.Code, text string) runtime.Reason {
	text = strings.ToLower(text)
	// The socket of the runtime, not a registry.
	if code == codes.Unavailable && socketGone.MatchString(text) {
		return fetch.RuntimeError
	}
	for _, c := range clues {
		if strings.Contains(text, c.text) {
			return c.reason
		}
	}
	if code == codes.NotFound {
		return fetch.NotFound
	}
	return fetch.RuntimeError
}

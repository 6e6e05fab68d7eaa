package cri

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// TestClassify has errors as runtimes gave them.
func TestClassify(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code      codes.Code
		text      string
		want      runtime.Reason
		transient bool
	}{
		"containerd: no such tag":       {codes.NotFound, `failed to pull and unpack image "r.example/app:v9": failed to resolve image: r.example/app:v9: not found`, fetch.NotFound, false},
		"containerd: no password":       {codes.Unknown, `failed to resolve image: pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials`, fetch.Unauthorized, false},
		"containerd: refused":           {codes.Unknown, `failed to resolve image: unexpected status from HEAD request to https://r.example/v2/app/manifests/v1: 403 Forbidden`, fetch.Unauthorized, false},
		"containerd: limited":           {codes.Unknown, `unexpected status from GET request to https://r.example/v2/app/manifests/v1: 429 Too Many Requests`, fetch.RateLimited, true},
		"containerd: registry ill":      {codes.Unknown, `unexpected status from HEAD request to https://r.example/v2/app/manifests/v1: 503 Service Unavailable`, fetch.RegistryError, true},
		"containerd: wrong bytes":       {codes.FailedPrecondition, `failed commit on ref "layer-sha256:aa": unexpected commit digest sha256:bb, expected sha256:aa: failed precondition`, fetch.DigestMismatch, false},
		"containerd: other platform":    {codes.NotFound, `failed to pull and unpack image: no match for platform in manifest: not found`, fetch.PlatformMissing, false},
		"containerd: unknown CA":        {codes.Unknown, `failed to do request: Head "https://r.example/v2/app/manifests/v1": tls: failed to verify certificate: x509: certificate signed by unknown authority`, fetch.TLSError, true},
		"containerd: refused dial":      {codes.Unknown, `failed to do request: Head "https://r.example/v2/": dial tcp 10.0.0.1:443: connect: connection refused`, fetch.NetworkError, true},
		"containerd: cut":               {codes.Unknown, `failed to copy: httpReadSeeker: failed open: failed to do request: Get "https://r.example/v2/": EOF`, fetch.NetworkError, true},
		"containerd: full":              {codes.Unknown, `failed to copy: write /var/lib/containerd/x: no space left on device`, fetch.InsufficientDisk, true},
		"containerd: away":              {codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial unix /run/c.sock: connect: connection refused"`, fetch.RuntimeError, true},
		"containerd: killed in a call":  {codes.Unavailable, `error reading from server: EOF`, fetch.RuntimeError, true},
		"containerd: something new":     {codes.Internal, `the moon is in the wrong place`, fetch.RuntimeError, true},
		"cri-o: no such tag":            {codes.Unknown, `reading manifest v9 in r.example/app: manifest unknown`, fetch.NotFound, false},
		"cri-o: denied":                 {codes.Unknown, `initializing source docker://r.example/app:v1: reading manifest v1: unauthorized: authentication required`, fetch.Unauthorized, false},
		"cri-o: limited":                {codes.Unknown, `toomanyrequests: You have reached your pull rate limit`, fetch.RateLimited, true},
		"cri-o: other platform":         {codes.Unknown, `no image found in image index for architecture "arm64", variant "", OS "linux"`, fetch.PlatformMissing, false},
		"cri-dockerd: no such tag":      {codes.Unknown, `Error response from daemon: manifest for r.example/app:v9 not found: manifest unknown`, fetch.NotFound, false},
		"cri-dockerd: other platform":   {codes.Unknown, `no matching manifest for linux/arm64/v8 in the manifest list entries`, fetch.PlatformMissing, false},
		"cri-dockerd: denied":           {codes.Unknown, `Error response from daemon: pull access denied for app`, fetch.Unauthorized, false},
		"only a code":                   {codes.NotFound, `image`, fetch.NotFound, false},
		"not found is said of anything": {codes.Unknown, `lease does not exist: not found`, fetch.NotFound, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := classify("pulling r.example/app:v1", status.Error(tc.code, tc.text))
			if got := runtime.ReasonOf(err); got != tc.want || runtime.Transient(err) != tc.transient {
				t.Errorf("reason %s, transient %v, want %s, %v", got, runtime.Transient(err), tc.want, tc.transient)
			}
			if !strings.HasPrefix(err.Error(), "pulling r.example/app:v1: ") {
				t.Errorf("error = %q", err)
			}
		})
	}
}

func TestClassifyTakesSecretsOut(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`Get "https://user:s3cret@cdn.example/b?X-Amz-Signature=s1gned&x=1": EOF`: `Get "https://cdn.example": EOF`,
		`https://r.example/v2/app?ns=docker.io failed`:                            `https://r.example failed`,
		`the server said s3cret`:                                                  `the server said [redacted]`,
		`http://[::1]:5000/v2/x: EOF`:                                             `http://[::1]:5000 EOF`,
		`nothing to hide`:                                                         `nothing to hide`,
	} {
		if got := classify("x", errors.New(in), "s3cret").Error(); got != "x: "+want {
			t.Errorf("classify(%q) = %q, want %q", in, got, "x: "+want)
		}
	}
}

func TestClassifyKnowsErrorsOfItsOwnProcess(t *testing.T) {
	t.Parallel()
	if got := runtime.ReasonOf(classify("x", context.DeadlineExceeded)); got != fetch.RuntimeError {
		t.Errorf("reason = %s, want RuntimeError", got)
	}
}

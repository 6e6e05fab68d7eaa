package registrycheck

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/resolve"
)

// Quota is what a registry lets a user pull.
type Quota struct {
	// Limit and Remaining are numbers of pulls; Window is the time that they are for.
	Limit     int           `json:"limit"`
	Remaining int           `json:"remaining"`
	Window    time.Duration `json:"-"`
	// Seconds is Window in seconds.
	Seconds int64 `json:"windowSeconds"`
	// Limited is false where the registry names no limit: the others are 0 then.
	Limited bool `json:"limited"`
}

// The image by which Docker Hub tells quotas: asking for it with HEAD costs none
// (docs.docker.com/docker-hub/usage/pulls).
const (
	hub        = "docker.io"
	hubHost    = "registry-1.docker.io"
	quotaImage = hub + "/ratelimitpreview/test:latest"
)

// HubQuota asks Docker Hub how many pulls are left to the credentials, without spending
// one. It is told per user, or per address without credentials.
func (c *Checker) HubQuota(ctx context.Context, keys keychain.Keychain) (Quota, error) {
	ref, err := imageref.Parse(quotaImage)
	if err != nil {
		return Quota{}, err
	}
	q := resolve.Query{Reference: ref, Keychain: keys, First: hubHost}
	return resolve.Ask(ctx, c.resolver, q, func(ctx context.Context, s *access.Session) (Quota, error) {
		resp, err := s.Request(ctx, http.MethodHead, access.Object{Kind: access.Manifests, ID: ref.Tag()})
		if err != nil {
			return Quota{}, err
		}
		_ = resp.Body.Close()
		return readQuota(resp.Header)
	})
}

// readQuota reads headers such as "ratelimit-limit: 100;w=21600".
func readQuota(h http.Header) (q Quota, err error) {
	if h.Get("Ratelimit-Limit") == "" {
		return Quota{}, nil
	}
	var seconds int64
	if q.Limit, seconds, err = readLimit(h.Get("Ratelimit-Limit")); err != nil {
		return Quota{}, err
	}
	if q.Remaining, _, err = readLimit(h.Get("Ratelimit-Remaining")); err != nil {
		return Quota{}, err
	}
	q.Limited, q.Seconds, q.Window = true, seconds, time.Duration(seconds)*time.Second
	return q, nil
}

// maxSeconds is a year: more is nonsense.
const maxSeconds = 366 * 24 * 60 * 60

func readLimit(s string) (n int, window int64, err error) {
	count, params, _ := strings.Cut(s, ";")
	if n, err = strconv.Atoi(strings.TrimSpace(count)); err != nil || n < 0 {
		return 0, 0, fmt.Errorf("quota %q is no number", access.Scrub(s))
	}
	if _, w, ok := strings.Cut(params, "w="); ok {
		w, _, _ = strings.Cut(w, ";")
		if window, err = strconv.ParseInt(strings.TrimSpace(w), 10, 64); err != nil || window < 0 || window > maxSeconds {
			return 0, 0, fmt.Errorf("window of quota %q is no number of seconds", access.Scrub(s))
		}
	}
	return n, window, nil
}

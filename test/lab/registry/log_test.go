package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	type got struct{ Repository, Blob, Manifest string }
	for path, want := range map[string]got{
		"/v2/":                                 {},
		"/token":                               {},
		"/v2/a/b/manifests/v1":                 {Repository: "a/b", Manifest: "v1"},
		"/v2/a/blobs/sha256:12":                {Repository: "a", Blob: "sha256:12"},
		"/v2/a/blobs/uploads/4711":             {Repository: "a"},
		"/v2/blobs/manifests/blobs/sha256:12":  {Repository: "blobs/manifests", Blob: "sha256:12"},
		"/v2/a/tags/list":                      {Repository: "a"},
		"/v2/a/manifests/sha256:12?ns=x.org":   {Repository: "a", Manifest: "sha256:12?ns=x.org"},
		"/v2/a/referrers/sha256:12":            {Repository: "a"},
		"/v2/deep/er/still/manifests/sha256:1": {Repository: "deep/er/still", Manifest: "sha256:1"},
	} {
		var g got
		g.Repository, g.Blob, g.Manifest = target(path)
		if diff := cmp.Diff(want, g); diff != "" {
			t.Errorf("target(%s) (-want +got):\n%s", path, diff)
		}
	}
}

func TestRepeatedCountsBytesServedMoreThanOnce(t *testing.T) {
	t.Parallel()
	get := func(offset, bytes int64) Request {
		return Request{Method: "GET", Blob: "b", Status: 206, Offset: offset, Bytes: bytes}
	}
	for name, tc := range map[string]struct {
		log  Log
		want int64
	}{
		"nothing served":             {nil, 0},
		"one request":                {Log{get(0, 10)}, 0},
		"resumed where it ended":     {Log{get(0, 10), get(10, 5)}, 0},
		"resumed out of order":       {Log{get(10, 5), get(0, 10)}, 0},
		"two bytes before the end":   {Log{get(0, 10), get(8, 5)}, 2},
		"whole twice":                {Log{get(0, 10), get(0, 10)}, 10},
		"whole three times":          {Log{get(0, 10), get(0, 10), get(0, 10)}, 20},
		"a part within":              {Log{get(0, 10), get(4, 2)}, 2},
		"another blob":               {Log{get(0, 10), {Method: "GET", Blob: "c", Status: 200, Bytes: 10}}, 0},
		"an error's text":            {Log{get(0, 10), {Method: "GET", Blob: "b", Status: 503, Bytes: 10}}, 0},
		"a question about it (HEAD)": {Log{get(0, 10), {Method: "HEAD", Blob: "b", Status: 200}}, 0},
	} {
		if got := tc.log.Repeated("b"); got != tc.want {
			t.Errorf("%s: %d bytes repeated, want %d", name, got, tc.want)
		}
	}
}

func TestOffset(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]int64{"": 0, "bytes 5-9/10": 5, "bytes 0-9/10": 0, "bytes */10": 0, "lines 5-9": 0} {
		if got := offset(header); got != want {
			t.Errorf("offset(%q) = %d, want %d", header, got, want)
		}
	}
}

func TestTakeCountsDown(t *testing.T) {
	t.Parallel()
	answers := cans([]Response{{Method: "GET", Times: 2, Status: 503}, {Status: 404}})
	var got []int
	for range 4 {
		got = append(got, take(answers, httpGet(t)).Status)
	}
	if diff := cmp.Diff([]int{503, 503, 404, 404}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if take(cans(nil), httpGet(t)) != nil {
		t.Error("an answer without rules")
	}
}

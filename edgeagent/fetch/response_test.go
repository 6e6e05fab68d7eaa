package fetch

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// answer is one of host h with "key: value" headers.
func answer(status int, length int64, headers ...string) head {
	h := head{host: "h", status: status, length: length, header: http.Header{}}
	for _, line := range headers {
		key, value, _ := strings.Cut(line, ": ")
		h.header.Set(key, value)
	}
	return h
}

func TestCheckBlob(t *testing.T) {
	t.Parallel()
	const size = 10
	part := func(contentRange string) head {
		return answer(http.StatusPartialContent, -1, "Content-Range: "+contentRange)
	}
	tests := map[string]struct {
		head   head
		offset int64
		skip   int64
		want   string // in the error
	}{
		"whole":                       {answer(200, size), 0, 0, ""},
		"whole, of unknown length":    {answer(200, -1), 0, 0, ""},
		"the end":                     {part("bytes 4-9/10"), 4, 0, ""},
		"a part of the end":           {part("bytes 4-7/10"), 4, 0, ""},
		"the end, of unknown size":    {part("bytes 4-9/*"), 4, 0, ""},
		"range ignored":               {answer(200, size), 4, 4, ""},
		"another part":                {part("bytes 3-9/10"), 4, 0, "sends bytes from 3 on, want from 4 on"},
		"another size":                {part("bytes 4-10/11"), 4, 0, "of a blob of 10 bytes"},
		"more than there is":          {part("bytes 4-10/*"), 4, 0, "of a blob of 10 bytes"},
		"no range given":              {part(""), 4, 0, "content range"},
		"too short":                   {answer(200, 3), 0, 0, "serves 3 bytes, want 10"},
		"too long":                    {answer(200, 11), 0, 0, "serves 11 bytes, want 10"},
		"compressed again":            {answer(200, size, "Content-Encoding: gzip"), 0, 0, "content encoding"},
		"identity is no encoding":     {answer(200, size, "Content-Encoding: identity"), 0, 0, ""},
		"not satisfiable":             {answer(416, 0), 4, 0, "ends before the part"},
		"success of an unknown kind":  {answer(204, 0), 0, 0, "unexpected status"},
		"an encoding with a line end": {answer(200, size, "Content-Encoding: a\nb"), 0, 0, `"a\nb"`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			skip, err := checkBlob(tc.head, size, tc.offset)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error = %v, want %q", err, tc.want)
			}
			if err == nil && skip != tc.skip {
				t.Errorf("skip = %d, want %d", skip, tc.skip)
			}
		})
	}
}

func TestParseContentRange(t *testing.T) {
	t.Parallel()
	good := map[string]contentRange{
		"bytes 0-0/1":  {0, 0, 1},
		"bytes 4-9/10": {4, 9, 10},
		"Bytes 4-9/*":  {4, 9, -1},
		"bytes 0-9223372036854775806/9223372036854775807": {0, 1<<63 - 2, 1<<63 - 1},
	}
	for in, want := range good {
		if got, err := parseContentRange(in); err != nil || got != want {
			t.Errorf("parseContentRange(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "bytes", "bytes */10", "bytes 4-9", "4-9/10", "bytes 9-4/10", "bytes 4-9/9", "bytes -4-9/10", "bytes +4-9/10",
		"bytes 4 -9/10", "items 4-9/10", "bytes 4-9/10/11", "bytes 4-9223372036854775808/*", "bytes 0x4-9/10", "bytes  4-9/10",
	} {
		if got, err := parseContentRange(in); err == nil {
			t.Errorf("parseContentRange(%q) = %v, want an error", in, got)
		}
	}
}

// FuzzParseContentRange holds that what is accepted is consistent and prints as it was.
func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 4-9/10", "bytes 4-9/*", "bytes */10", "bytes 00-09/10", "", "bytes 1-/2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			return
		}
		if r.first < 0 || r.last < r.first || r.size != -1 && r.size <= r.last {
			t.Errorf("parseContentRange(%q) = %+v", s, r)
		}
		total := "*"
		if r.size >= 0 {
			total = strconv.FormatInt(r.size, 10)
		}
		again, err := parseContentRange(fmt.Sprintf("bytes %d-%d/%s", r.first, r.last, total))
		if err != nil || again != r {
			t.Errorf("%q prints as something else: %+v, %v", s, again, err)
		}
		if err := checkRange(s, 1<<40, r.first); err == nil && r.size >= 0 && r.size != 1<<40 {
			t.Errorf("checkRange(%q) accepts a blob of another size", s)
		}
	})
}

func TestStatusError(t *testing.T) {
	t.Parallel()
	body := func(code string) string {
		return `{"errors":[{"code":"` + code + `","message":"you sent Bearer s3cret"}]}`
	}
	tests := map[string]struct {
		head head
		body string
		want Error
		text string
	}{
		"not found":       {answer(404, 0), body("MANIFEST_UNKNOWN"), Error{Reason: NotFound}, "h: not found: MANIFEST_UNKNOWN (HTTP 404)"},
		"unauthorized":    {answer(401, 0), "", Error{Reason: Unauthorized}, "h: credentials are missing or refused (HTTP 401)"},
		"denied":          {answer(403, 0), body("DENIED"), Error{Reason: Unauthorized}, "h: access is denied: DENIED (HTTP 403)"},
		"limited":         {answer(429, 0, "Retry-After: 90"), "", Error{Reason: RateLimited, RetryAfter: 90 * time.Second}, "h: too many requests (HTTP 429)"},
		"limited by code": {answer(403, 0), body("TOOMANYREQUESTS"), Error{Reason: RateLimited}, "h: too many requests: TOOMANYREQUESTS (HTTP 403)"},
		"busy":            {answer(503, 0), "<html>", Error{Reason: RegistryError}, "h: server error (HTTP 503)"},
		"teapot":          {answer(418, 0), body("s3cret"), Error{Reason: RegistryError}, "h: request refused (HTTP 418)"},
		"long code":       {answer(400, 0), body(strings.Repeat("A", 41)), Error{Reason: RegistryError}, "h: request refused (HTTP 400)"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := errors.AsType[*Error](statusError(tc.head, []byte(tc.body)))
			if !ok {
				t.Fatal("not an *Error")
			}
			if got.Error() != tc.text {
				t.Errorf("text = %q, want %q", got, tc.text)
			}
			tc.want.Host, tc.want.Status, tc.want.Err = "h", tc.head.status, got.Err
			if diff := cmp.Diff(tc.want, *got, cmpopts.EquateErrors()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "x": 0, "-1": 0, "0": 0, "30": 30 * time.Second,
		"Mon, 23 Nov 2026 12:01:00 GMT": time.Minute,
		"Mon, 23 Nov 2026 11:00:00 GMT": 0,
		"Tue, 23 Nov 2027 12:00:00 GMT": maxRetryAfter,
		"9223372036854775807":           maxRetryAfter,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", in, got, want)
		}
	}
}

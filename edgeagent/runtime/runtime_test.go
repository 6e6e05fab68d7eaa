package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

var (
	one = digest.FromString("one")
	two = digest.FromString("two")
)

func ref(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequestCheck(t *testing.T) {
	t.Parallel()
	name := ref(t, "r.example/app:v1")
	tests := map[string]struct {
		request runtime.Request
		want    string
		reason  runtime.Reason
	}{
		"by tag":         {runtime.Request{Name: name, Digest: one}, "", ""},
		"by digest":      {runtime.Request{Name: name.WithDigest(one), Digest: one}, "", ""},
		"no name":        {runtime.Request{Digest: one}, "names no image", fetch.RuntimeError},
		"no digest":      {runtime.Request{Name: name}, `digest "" must be sha256:`, fetch.RuntimeError},
		"another digest": {runtime.Request{Name: name.WithDigest(one), Digest: two}, "asked to make it " + two.String(), fetch.DigestMismatch},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tc.request.Check()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || runtime.ReasonOf(err) != tc.reason) {
				t.Errorf("error = %v, want %q, reason %s", err, tc.want, tc.reason)
			}
		})
	}
}

func TestNamesOf(t *testing.T) {
	t.Parallel()
	tag := ref(t, "r.example/app:v1")
	by := tag.WithDigest(one)
	if got := runtime.NamesOf(tag, one); !slices.Equal(got, []imageref.Reference{tag, by}) {
		t.Errorf("names = %v", got)
	}
	if got := runtime.NamesOf(by, one); !slices.Equal(got, []imageref.Reference{by}) {
		t.Errorf("names = %v", got)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err       error
		want      runtime.Reason
		transient bool
	}{
		"fetching":          {&fetch.Error{Reason: fetch.NotFound, Err: errors.New("x")}, fetch.NotFound, false},
		"runtime":           {runtime.Failed("naming", errors.New("x")), fetch.RuntimeError, true},
		"disk":              {runtime.Failed("naming", fmt.Errorf("writing: %w", syscall.ENOSPC)), fetch.InsufficientDisk, true},
		"disk, over gRPC":   {runtime.Failed("naming", errors.New("rpc error: no space left on device")), fetch.InsufficientDisk, true},
		"keeps its reason":  {runtime.Failed("naming", &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("x")}), fetch.NetworkError, true},
		"keeps our reason":  {runtime.Failed("naming", runtime.NewTagMoved(imageref.Reference{}, one, two)), runtime.TagMoved, false},
		"moved tag":         {runtime.NewTagMoved(imageref.Reference{}, one, two), runtime.TagMoved, false},
		"shared name":       {&runtime.NameSharedError{}, fetch.RuntimeError, true},
		"something unknown": {errors.New("x"), fetch.RuntimeError, true},
		"joined":            {errors.Join(errors.New("x"), &fetch.Error{Reason: fetch.RateLimited, Err: errors.New("y")}), fetch.RateLimited, true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := fmt.Errorf("ensuring: %w", tc.err)
			if got := runtime.ReasonOf(err); got != tc.want || runtime.Transient(err) != tc.transient {
				t.Errorf("reason %s, transient %v, want %s, %v", got, runtime.Transient(err), tc.want, tc.transient)
			}
		})
	}
}

func TestErrorsSayWhat(t *testing.T) {
	t.Parallel()
	name := ref(t, "r.example/app:v1")
	var others []imageref.Reference
	for i := range 5 {
		others = append(others, ref(t, fmt.Sprintf("r.example/app:v%d", i+2)))
	}
	for want, err := range map[string]error{
		"tag r.example/app:v1 moved: the registry has " + one.String() + ", want " + two.String():                                      runtime.NewTagMoved(name, one, two),
		"removing r.example/app:v1 would remove 5 other names of the same image: r.example/app:v2, r.example/app:v3, r.example/app:v4": &runtime.NameSharedError{Name: name, Others: others},
		"naming app: deep": runtime.Failed("naming app", errors.New("deep")),
	} {
		if err.Error() != want {
			t.Errorf("error = %q, want %q", err, want)
		}
	}
	if !errors.Is(runtime.Failed("x", context.Canceled), context.Canceled) {
		t.Error("Failed hides its cause")
	}
}

func TestInfoCan(t *testing.T) {
	t.Parallel()
	i := runtime.Info{Capabilities: []runtime.Capability{runtime.CanPin}}
	if !i.Can(runtime.CanPin) || i.Can(runtime.CanUntag) {
		t.Errorf("Can = %v, %v, want true, false", i.Can(runtime.CanPin), i.Can(runtime.CanUntag))
	}
}

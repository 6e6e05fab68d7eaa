package caches

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// ceiling is the most that a status takes, in bytes of JSON.
const ceiling = 768 << 10

// TestStatusCeiling: on every node every image fails with a message of 4 KB, every look-up
// ended with one, too, and the names are the longest there are. The status stays below its
// ceiling, with the true number of failures and the newest of them. What nodes add is
// counts: 1,000 images on 10,000 nodes take 10 KB more than on 300.
func TestStatusCeiling(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fleet, images int
		message       string // a part of each
	}{
		"the most images":                      {300, 1000, "connection refused; "},
		"the most images, answered in HTML":    {300, 1000, "<html>&"},
		"a large fleet, one image, no ASCII":   {10_000, 1, "é€😀"},
		"a large fleet, some images":           {10_000, 20, "connection refused; "},
		"a large fleet, answers are not texts": {10_000, 2, "\x01\x02\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, nil)
			message := strings.Repeat(tc.message, 4096/len(tc.message)+1)
			s.failing(tc.fleet, tc.images, message)
			got := s.sync("worst").Status
			b, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes", len(b))
			if len(b) > ceiling {
				t.Errorf("status of %d bytes, at most %d", len(b), ceiling)
			}
			if int(got.FailureCount) != tc.fleet*tc.images || int(got.Nodes.Failed) != tc.fleet || len(got.Images) != tc.images {
				t.Errorf("%d failures on %d nodes of %d images, want %d on %d of %d",
					got.FailureCount, got.Nodes.Failed, len(got.Images), tc.fleet*tc.images, tc.fleet, tc.images)
			}
			checkNewest(t, got.Failures, tc.images)
			checkMessages(t, &got)
		})
	}
}

// failing makes a fleet that fails with all images of an ImageCache named worst: node i
// since i%20 minutes. Nodes that began together share their lists, as all of them take more
// memory than a test should.
func (s *stand) failing(fleet, images int, message string) {
	s.tb.Helper()
	var names []string
	for i := range images {
		names = append(names, fmt.Sprintf("r.io/%0*d:v1", imageref.MaxLength-len("r.io/:v1"), i))
	}
	groups := make([][]v1alpha1.NodeImageStatus, 20)
	for g := range groups {
		for _, name := range names {
			groups[g] = append(groups[g], v1alpha1.NodeImageStatus{
				Name: name, Digest: digestFor(name).String(), Phase: v1alpha1.PhaseFailed,
				Reason: v1alpha1.ReasonInsufficientDisk, Message: message, Since: new(metav1.NewTime(began(g))),
			})
		}
	}
	for i := range fleet {
		s.join(i, func(o *v1alpha1.NodeImageCache) { o.Status.Images = groups[i%len(groups)] })
	}
	ic := resolved("worst", names...)
	for i := range ic.Status.Images {
		ic.Status.Images[i].Check = &v1alpha1.ImageCheck{
			Verdict: v1alpha1.VerdictInconclusive, Reason: v1alpha1.ReasonUnauthorized, Message: message, Time: metav1.NewTime(began(0)),
		}
	}
	s.create(ic)
}

func began(group int) time.Time {
	return time.Date(2026, 11, 1, 10, group, 0, 0, time.UTC)
}

// checkNewest expects the 20 newest failures: those of the nodes of the last group, in the
// order of nodes and images.
func checkNewest(t *testing.T, failures []v1alpha1.ImageFailure, images int) {
	t.Helper()
	if len(failures) != maxFailures {
		t.Fatalf("%d failures are listed, want %d", len(failures), maxFailures)
	}
	for i, f := range failures {
		node := fmt.Sprintf("node-%05d", 19+20*(i/images))
		if f.Node != node || !f.Since.Time.Equal(began(19)) || i > 0 && f.Node == failures[i-1].Node && f.Image <= failures[i-1].Image {
			t.Errorf("failure %d is of %s on %s since %s, want %s since %s", i, f.Image, f.Node, f.Since, node, began(19))
		}
	}
}

// checkMessages holds messages to what the CRD allows, and expects that something is left.
func checkMessages(t *testing.T, s *v1alpha1.ImageCacheStatus) {
	t.Helper()
	for _, f := range s.Failures {
		if len(f.Message) > maxMessage || len(f.Message) < maxMessage/6-10 {
			t.Fatalf("a failure's message has %d bytes", len(f.Message))
		}
	}
	for _, img := range s.Images {
		if n := len(img.Check.Message); n > maxMessage || n < 10 {
			t.Fatalf("a check's message has %d bytes", n)
		}
	}
	if ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); ready.Reason != v1alpha1.ReasonImagesFailing || len(ready.Message) > maxCondition {
		t.Errorf("Ready: %+v", ready)
	}
}

package runtimetest

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"testing"
	"time"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
)

// Setup is what a driver under test is to be made with.
type Setup struct {
	// Registry serves the images, over plain HTTP on a loopback address.
	Registry *fetchtest.Registry
	// HostsDir is a certs.d directory that says so.
	HostsDir string
	// Credentials are for the registry.
	Credentials func(name imageref.Reference, host string) ([]fetch.Login, error)
}

// Harness is a driver under test and what the suite must do past it. Functions that are
// nil leave out the tests that need them.
type Harness struct {
	Driver runtime.Driver
	// Reopen gives a new driver on the same state, as a restarted agent makes it. The one
	// before has been closed.
	Reopen func(t *testing.T) runtime.Driver
	// Name gives an image of the runtime another name, by hand.
	Name func(t *testing.T, name imageref.Reference, d digest.Digest)
	// Unname removes one name, by hand.
	Unname func(t *testing.T, name imageref.Reference)
	// Damage removes a blob without which the image is not complete, by hand.
	Damage func(t *testing.T, config digest.Digest)
	// Has says whether the runtime holds a blob, under a name or not.
	Has func(t *testing.T, d digest.Digest) bool
	// Pinned says whether the kubelet would see the image of a name as pinned. Where it
	// is nil the inventory is believed.
	Pinned func(t *testing.T, name imageref.Reference) bool
	// State is where the driver's blobs are: a layout directory or containerd's socket.
	// Where it is empty it is the root that Info gives.
	State string
	// Unwritten is how many bytes the runtime may have read and not written when a pull
	// ends: so many may be asked for twice. 0 for drivers that fetch themselves.
	Unwritten int64
}

// Conformance runs the suite. newHarness is called for each test, and cleans up by
// t.Cleanup.
func Conformance(t *testing.T, newHarness func(t *testing.T, s Setup) Harness) {
	t.Helper()
	for _, tc := range tests() {
		t.Run(tc.name, func(t *testing.T) {
			s := newSuite(t, newHarness)
			for _, c := range tc.needs {
				if !s.info.Can(c) {
					t.Skipf("driver %s cannot %s", s.info.Name, c)
				}
			}
			tc.run(t, s)
		})
	}
}

// suite is one test's registry and driver.
type suite struct {
	Harness
	reg  *fetchtest.Registry
	info runtime.Info
	seed int64 // differs from test to test: runtimes keep content that they know
}

// Credentials of the test registry, which never may be seen in an error. The outdated one is
// tried first.
const (
	user     = "edge"
	outdated = "0utdated-pull-token"
	secret   = "s3cr3t-pull-token"
)

func newSuite(t *testing.T, newHarness func(*testing.T, Setup) Harness) *suite {
	t.Helper()
	h := fnv.New32a()
	h.Write([]byte(t.Name()))
	s := &suite{reg: fetchtest.NewRegistry(t), seed: time.Now().UnixNano() ^ int64(h.Sum32())<<20}
	s.Harness = newHarness(t, Setup{
		Registry: s.reg, HostsDir: s.reg.HostsDir(t, ""),
		Credentials: func(imageref.Reference, string) ([]fetch.Login, error) {
			return []fetch.Login{{User: user, Secret: outdated}, {User: user, Secret: secret}}, nil
		},
	})
	t.Cleanup(func() {
		if err := s.Driver.Close(); err != nil {
			t.Errorf("closing the driver: %v", err)
		}
	})
	var err error
	if s.info, err = s.Driver.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// layer gives a layer that no other test has.
func (s *suite) layer(t *testing.T, size int64) v1.Layer {
	t.Helper()
	s.seed++
	return fetchtest.Layer(t, s.seed, size)
}

// image gives an image for the node.
func (s *suite) image(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	return fetchtest.Image(t, platforms.DefaultString(), layers...)
}

// push puts an image that no other test has under "app:v1".
func (s *suite) push(t *testing.T, ref string, size int64) (v1.Image, imageref.Reference, digest.Digest) {
	t.Helper()
	img := s.image(t, s.layer(t, size))
	return img, s.reg.Ref(t, ref), s.reg.Push(t, ref, img)
}

// reopen is a restart of the agent.
func (s *suite) reopen(t *testing.T) {
	t.Helper()
	if err := s.Driver.Close(); err != nil {
		t.Fatal(err)
	}
	s.Driver = s.Reopen(t)
}

func (s *suite) ensure(t *testing.T, name imageref.Reference, d digest.Digest) {
	t.Helper()
	if err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d, Pin: true}, nil); err != nil {
		t.Fatalf("ensuring %s: %v", name, err)
	}
}

// refused calls Ensure and wants it to fail for a reason.
func (s *suite) refused(t *testing.T, name imageref.Reference, d digest.Digest, want ...runtime.Reason) error {
	t.Helper()
	err := s.Driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, nil)
	if err == nil || !slices.Contains(want, runtime.ReasonOf(err)) {
		t.Fatalf("error = %v, reason %s, want reason %s", err, runtime.ReasonOf(err), want)
	}
	return err
}

func (s *suite) inventory(t *testing.T) runtime.Inventory {
	t.Helper()
	inv, err := s.Driver.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// wantHeld wants names to be complete with a digest.
func (s *suite) wantHeld(t *testing.T, d digest.Digest, names ...imageref.Reference) {
	t.Helper()
	inv := s.inventory(t)
	for _, name := range names {
		if got := inv[name]; !s.pointsAt(inv, name, d) || !got.Complete {
			t.Errorf("%s = %+v, want %s, complete", name, got, d)
		}
	}
}

// pointsAt says whether a name is a digest. A driver that cannot name by digest need not
// tell which one of several a tag is: then both must be names of one image.
func (s *suite) pointsAt(inv runtime.Inventory, name imageref.Reference, d digest.Digest) bool {
	got := inv[name]
	if got.Digest != "" || s.info.Can(runtime.CanNameByDigest) {
		return got.Digest == d
	}
	return got.ID != "" && got.ID == inv[name.WithDigest(d)].ID
}

// wantGone wants names not to be there.
func (s *suite) wantGone(t *testing.T, names ...imageref.Reference) {
	t.Helper()
	inv := s.inventory(t)
	for _, name := range names {
		if got, ok := inv[name]; ok {
			t.Errorf("%s = %+v, want none", name, got)
		}
	}
}

// id is what the runtime knows an image as: its config. Docker on containerd's image store
// takes what the tag points at.
func (s *suite) id(t *testing.T, img v1.Image, d digest.Digest) string {
	t.Helper()
	if s.info.Name == "docker" {
		return d.String()
	}
	return fetchtest.ConfigDigest(t, img).String()
}

// patience bounds each wait: how long a machine may be busy with other tests.
const patience = 2 * time.Minute

// eventually waits for a condition that another process brings about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New(what))
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("after %s not: %v", patience, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// sentOnce says whether the registry sent all of a blob, and no byte of it twice.
func (s *suite) sentOnce(t *testing.T, d digest.Digest) {
	t.Helper()
	transfers, next := s.reg.Transfers(d), int64(0)
	for _, tr := range transfers {
		if tr.First > next || tr.First < next-s.Unwritten {
			t.Errorf("blob %s was asked for from byte %d on, want from %d on: %+v", d, tr.First, next, transfers)
		}
		next = tr.First + tr.Sent
	}
	if size := int64(len(s.reg.Blob(d))); next != size {
		t.Errorf("blob %s: registry sent up to byte %d of %d", d, next, size)
	}
}

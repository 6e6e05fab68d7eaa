package cri_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/cri"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a runtime that is not containerd: without leases, and with or without the
// ability to remove one name. What it serves is what tests put into registry.
type server struct {
	root string // the directory of its images
	api.UnimplementedImageServiceServer
	api.UnimplementedRuntimeServiceServer
	name string

	mu         sync.Mutex
	registry   map[string]digest.Digest // tag → digest
	images     map[string]*api.Image    // by ID
	containers []*api.Container
	fail       error
	refuse     map[string]error // by password
	auth       *api.AuthConfig
	pulls      int
	info       map[string]string // of the runtime
	sandboxes  []*api.PodSandbox
	used       map[string]string // images of sandboxes, by ID
	asked      []string          // IDs of sandboxes
}

func (s *server) Status(_ context.Context, r *api.StatusRequest) (*api.StatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !r.Verbose {
		return &api.StatusResponse{}, nil
	}
	return &api.StatusResponse{Info: s.info}, s.fail
}

func (s *server) ListPodSandbox(context.Context, *api.ListPodSandboxRequest) (*api.ListPodSandboxResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &api.ListPodSandboxResponse{Items: s.sandboxes}, nil
}

func (s *server) PodSandboxStatus(_ context.Context, r *api.PodSandboxStatusRequest) (*api.PodSandboxStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.PodSandboxId)
	return &api.PodSandboxStatusResponse{Info: map[string]string{"info": fmt.Sprintf(`{"image":%q}`, s.used[r.PodSandboxId])}}, nil
}

func (s *server) Version(context.Context, *api.VersionRequest) (*api.VersionResponse, error) {
	return &api.VersionResponse{RuntimeName: s.name, RuntimeVersion: "1.0"}, nil
}

func (s *server) ImageFsInfo(context.Context, *api.ImageFsInfoRequest) (*api.ImageFsInfoResponse, error) {
	return &api.ImageFsInfoResponse{ImageFilesystems: []*api.FilesystemUsage{{FsId: &api.FilesystemIdentifier{Mountpoint: filepath.Join("/", s.root)}}}}, nil
}

func (s *server) ListContainers(context.Context, *api.ListContainersRequest) (*api.ListContainersResponse, error) {
	return &api.ListContainersResponse{Containers: s.containers}, nil
}

func (s *server) ListImages(context.Context, *api.ListImagesRequest) (*api.ListImagesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &api.ListImagesResponse{}
	for _, i := range s.images {
		resp.Images = append(resp.Images, i)
	}
	return resp, nil
}

func (s *server) find(name string) *api.Image {
	for _, i := range s.images {
		if i.Id == name || slices.Contains(i.RepoTags, name) || slices.Contains(i.RepoDigests, name) {
			return i
		}
	}
	return nil
}

func (s *server) ImageStatus(_ context.Context, r *api.ImageStatusRequest) (*api.ImageStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &api.ImageStatusResponse{Image: s.find(r.Image.Image)}, nil
}

func (s *server) PullImage(_ context.Context, r *api.PullImageRequest) (*api.PullImageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls++
	s.auth = r.Auth
	if s.fail != nil {
		return nil, s.fail
	}
	if err := s.refuse[r.Auth.GetPassword()]; err != nil {
		return nil, err
	}
	name, byDigest, found := strings.Cut(r.Image.Image, "@")
	d := digest.Digest(byDigest)
	if !found {
		d = s.registry[r.Image.Image]
		name = name[:strings.LastIndex(name, ":")]
	}
	id := digest.FromString("config of " + d.String()).Encoded()
	i := s.images[id]
	if i == nil {
		i = &api.Image{Id: id, Size: 5}
		s.images[id] = i
	}
	if !found && !slices.Contains(i.RepoTags, r.Image.Image) {
		i.RepoTags = append(i.RepoTags, r.Image.Image)
	}
	if full := name + "@" + d.String(); !slices.Contains(i.RepoDigests, full) {
		i.RepoDigests = append(i.RepoDigests, full)
	}
	return &api.PullImageResponse{ImageRef: id}, nil
}

func (s *server) RemoveImage(_ context.Context, r *api.RemoveImageRequest) (*api.RemoveImageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(r.Image.Image)
	if i == nil {
		return &api.RemoveImageResponse{}, nil
	}
	gone := func(n string) bool { return s.name != "cri-o" || n == r.Image.Image || i.Id == r.Image.Image }
	i.RepoTags, i.RepoDigests = slices.DeleteFunc(i.RepoTags, gone), slices.DeleteFunc(i.RepoDigests, gone)
	if len(i.RepoTags)+len(i.RepoDigests) == 0 {
		delete(s.images, i.Id)
	}
	return &api.RemoveImageResponse{}, nil
}

func serve(t *testing.T, name string, creds func(imageref.Reference, string) ([]fetch.Login, error)) (*server, *cri.Driver) {
	t.Helper()
	s := &server{root: "/var/lib/not-there", name: name, registry: map[string]digest.Digest{}, images: map[string]*api.Image{}}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	api.RegisterImageServiceServer(g, s)
	api.RegisterRuntimeServiceServer(g, s)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := g.Serve(l); err != nil {
			t.Error(err)
		}
	})
	d, err := cri.New(cri.Options{Address: socket, Credentials: creds})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		wg.Wait()
	})
	return s, d
}

var (
	first  = digest.FromString("first")
	second = digest.FromString("second")
)

func parse(t *testing.T, s string) imageref.Reference {
	t.Helper()
	r, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRuntimeWithoutLeases(t *testing.T) {
	t.Parallel()
	s, d := serve(t, "cri-o", nil)
	name := parse(t, "r.example/app:v1")
	s.registry[name.String()] = first
	info, err := d.Info(t.Context())
	want := runtime.Info{Name: "cri-o", Version: "1.0", Platform: info.Platform, Root: "/var/lib/not-there", Capabilities: []runtime.Capability{runtime.CanUntag}}
	if diff := cmp.Diff(want, info, cmp.AllowUnexported(imageref.Reference{})); err != nil || diff != "" {
		t.Errorf("%v, info (-want +got):\n%s", err, diff)
	}
	for range 2 {
		if err := d.Ensure(t.Context(), runtime.Request{Name: name, Digest: first, Pin: true}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if s.pulls != 1 {
		t.Errorf("%d pulls, want 1", s.pulls)
	}
	held := runtime.Held{Digest: first, ID: digest.FromString("config of " + first.String()).String(), Complete: true}
	inv, err := d.Inventory(t.Context())
	if diff := cmp.Diff(runtime.Inventory{name: held, name.WithDigest(first): held}, inv, cmp.AllowUnexported(imageref.Reference{})); err != nil || diff != "" {
		t.Errorf("%v, inventory (-want +got):\n%s", err, diff)
	}
	if d.Changes(t.Context()) != nil || d.Release(t.Context(), name) != nil {
		t.Error("want no hints, and releasing to succeed")
	}
}

func TestMovedTag(t *testing.T) {
	t.Parallel()
	s, d := serve(t, "docker", nil)
	name := parse(t, "r.example/app:v1")
	s.registry[name.String()] = second
	err := d.Ensure(t.Context(), runtime.Request{Name: name, Digest: first}, nil)
	if runtime.ReasonOf(err) != runtime.TagMoved || runtime.Transient(err) ||
		!strings.Contains(err.Error(), first.String()) || !strings.Contains(err.Error(), second.String()) {
		t.Errorf("error = %v, want TagMoved with both digests", err)
	}
	if err := d.Ensure(t.Context(), runtime.Request{Name: name.WithDigest(first), Digest: first}, nil); err != nil {
		t.Errorf("by digest: %v", err)
	}
}

func TestRemoveByRuntime(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		runtime string
		shared  bool
	}{{"cri-o", false}, {"docker", true}} {
		t.Run(tc.runtime, func(t *testing.T) {
			t.Parallel()
			s, d := serve(t, tc.runtime, nil)
			v1, v2 := parse(t, "r.example/app:v1"), parse(t, "r.example/app:v2")
			for _, name := range []imageref.Reference{v1, v2} {
				s.registry[name.String()] = first
				if err := d.Ensure(t.Context(), runtime.Request{Name: name, Digest: first}, nil); err != nil {
					t.Fatal(err)
				}
			}
			err := d.Remove(t.Context(), v1, parse(t, "r.example/never:v1"))
			e, shared := errors.AsType[*runtime.NameSharedError](err)
			if shared != tc.shared || !shared && err != nil {
				t.Fatalf("error = %v, want shared: %v", err, tc.shared)
			}
			if shared && !slices.Equal(e.Others, []imageref.Reference{v2, v2.WithDigest(first)}) {
				t.Errorf("others = %v", e.Others)
			}
			inv, err := d.Inventory(t.Context())
			_, has1 := inv[v1]
			_, has2 := inv[v2]
			if err != nil || has1 != tc.shared || !has2 {
				t.Errorf("inventory = %v, %v", inv, err)
			}
			if err := d.Remove(t.Context(), v1, v2, v1.WithDigest(first)); err != nil {
				t.Fatal(err)
			}
			if len(s.images) != 0 {
				t.Errorf("images = %v, want none", s.images)
			}
		})
	}
}

func TestInUseByAnyName(t *testing.T) {
	t.Parallel()
	s, d := serve(t, "cri-o", nil)
	name := parse(t, "r.example/app:v1")
	s.registry[name.String()] = first
	if err := d.Ensure(t.Context(), runtime.Request{Name: name, Digest: first}, nil); err != nil {
		t.Fatal(err)
	}
	id := digest.FromString("config of " + first.String())
	for what, c := range map[string]*api.Container{
		"ID":     {ImageId: id.Encoded()},
		"digest": {ImageRef: "r.example/app@" + first.String()},
		"name":   {Image: &api.ImageSpec{Image: "r.example/app:v1"}},
	} {
		s.containers = []*api.Container{c}
		used, err := d.InUse(t.Context())
		if diff := cmp.Diff(map[string]struct{}{id.String(): {}}, used); err != nil || diff != "" {
			t.Errorf("by %s: %v, in use (-want +got):\n%s", what, err, diff)
		}
	}
}

func TestCredentialsAreForTheRegistryOnly(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name  string
		login fetch.Login
		want  *api.AuthConfig
	}{
		"password":       {"r.example:5000/app:v1", fetch.Login{User: "u", Secret: "p"}, &api.AuthConfig{Username: "u", Password: "p", ServerAddress: "https://r.example:5000"}},
		"refresh token":  {"r.example/app:v1", fetch.Login{Secret: "t"}, &api.AuthConfig{IdentityToken: "t", ServerAddress: "https://r.example"}},
		"docker.io":      {"busybox", fetch.Login{User: "u", Secret: "p"}, &api.AuthConfig{Username: "u", Password: "p", ServerAddress: "https://registry-1.docker.io"}},
		"registry token": {"r.example/app:v1", fetch.Login{Token: "t"}, &api.AuthConfig{RegistryToken: "t", ServerAddress: "https://r.example"}},
		"anonymous":      {"r.example/app:v1", fetch.Login{}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d := serve(t, "cri-o", func(imageref.Reference, string) ([]fetch.Login, error) {
				return []fetch.Login{tc.login}, nil
			})
			secret := tc.login.Secret + tc.login.Token
			s.fail = status.Error(codes.Unknown, "unauthorized: you sent "+secret+" to https://u:"+secret+"@x.example/?sig=1")
			err := d.Ensure(t.Context(), runtime.Request{Name: parse(t, tc.name), Digest: first}, nil)
			if runtime.ReasonOf(err) != fetch.Unauthorized || secret != "" && strings.Contains(err.Error(), "you sent "+secret) || strings.Contains(err.Error(), "sig=") {
				t.Errorf("error = %v", err)
			}
			if s.auth.String() != tc.want.String() {
				t.Errorf("auth = %v, want %v", s.auth, tc.want)
			}
		})
	}
}

// TestLoginsTakeTurns: until one is not refused, and the first one's refusal is told.
func TestLoginsTakeTurns(t *testing.T) {
	t.Parallel()
	denied, gone, busy := errors.New("401 Unauthorized"), errors.New("manifest unknown"), errors.New("connection refused")
	tests := map[string]struct {
		refuse map[string]error
		pulls  int
		want   fetch.Reason // "" for success
	}{
		"the first is right":   {nil, 1, ""},
		"the second is right":  {map[string]error{"1": denied}, 2, ""},
		"hidden from one":      {map[string]error{"1": gone}, 2, ""},
		"none is right":        {map[string]error{"1": denied, "2": gone}, 2, fetch.Unauthorized},
		"the registry is away": {map[string]error{"1": denied, "2": busy}, 2, fetch.NetworkError},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d := serve(t, "cri-o", func(imageref.Reference, string) ([]fetch.Login, error) {
				return []fetch.Login{{User: "u", Secret: "1"}, {User: "u", Secret: "2"}}, errors.New("a third cannot be read")
			})
			s.refuse, s.registry = tc.refuse, map[string]digest.Digest{"docker.io/library/app:v1": first}
			err := d.Ensure(t.Context(), runtime.Request{Name: parse(t, "app:v1"), Digest: first}, nil)
			if err == nil && tc.want != "" || err != nil && runtime.ReasonOf(err) != tc.want || s.pulls != tc.pulls {
				t.Errorf("after %d pulls: %v, want %q after %d", s.pulls, err, tc.want, tc.pulls)
			}
		})
	}
}

func TestUnreadableCredentials(t *testing.T) {
	t.Parallel()
	s, d := serve(t, "cri-o", func(imageref.Reference, string) ([]fetch.Login, error) {
		return nil, errors.New("sealed to another key")
	})
	err := d.Ensure(t.Context(), runtime.Request{Name: parse(t, "app:v1"), Digest: first}, nil)
	if runtime.ReasonOf(err) != fetch.Unauthorized || !strings.Contains(err.Error(), "sealed to another key") || s.pulls != 0 {
		t.Errorf("error = %v after %d pulls", err, s.pulls)
	}
}

func TestRuntimeAway(t *testing.T) {
	t.Parallel()
	d, err := cri.New(cri.Options{Address: "unix://" + filepath.Join(t.TempDir(), "absent")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	_, infoErr := d.Info(t.Context())
	_, invErr := d.Inventory(t.Context())
	_, useErr := d.InUse(t.Context())
	name := parse(t, "app:v1")
	for what, err := range map[string]error{
		"Info": infoErr, "Inventory": invErr, "InUse": useErr, "Remove": d.Remove(t.Context(), name),
		"Ensure": d.Ensure(t.Context(), runtime.Request{Name: name, Digest: first}, nil),
	} {
		if runtime.ReasonOf(err) != fetch.RuntimeError || !runtime.Transient(err) || err == nil {
			t.Errorf("%s: %v, want a transient RuntimeError", what, err)
		}
	}
}

// TestSandboxImage: the configuration tells where the runtime gives it, else the newest
// sandbox, which is asked for once. A runtime that does not answer changes nothing.
func TestSandboxImage(t *testing.T) {
	t.Parallel()
	s, d := serve(t, "any", nil)
	steps := []struct {
		what string
		do   func()
		want string
	}{
		{"no pods", func() {}, ""},
		{"pods", func() {
			s.sandboxes = []*api.PodSandbox{{Id: "old", CreatedAt: 1}, {Id: "new", CreatedAt: 2}}
			s.used = map[string]string{"old": "r.example/pause:1", "new": "r.example/pause:2"}
		}, "r.example/pause:2"},
		{"nothing new", func() {}, "r.example/pause:2"},
		{"the newest pod ends", func() { s.sandboxes = s.sandboxes[:1] }, "r.example/pause:2"},
		{"the configuration tells", func() { s.info = map[string]string{"config": `{"sandboxImage":"pause:3"}`} }, "docker.io/library/pause:3"},
		{"no answer", func() { s.fail = errors.New("not now") }, "docker.io/library/pause:3"},
	}
	for _, step := range steps {
		s.mu.Lock()
		step.do()
		s.mu.Unlock()
		info, err := d.Info(t.Context())
		if got := info.SandboxImage.String(); err != nil || got != step.want {
			t.Errorf("%s: %q, %v, want %q", step.what, got, err, step.want)
		}
	}
	if !slices.Equal(s.asked, []string{"new"}) {
		t.Errorf("asked for sandboxes %v, want the newest, once", s.asked)
	}
}

package edgeagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/keyring"
	"edgecache.dev/edgeagent/report"
	"edgecache.dev/edgeagent/runtime/layout"
	"edgecache.dev/edgeagent/store"
	"edgecache.dev/internal/seal"
)

// site is an agent as it is in the field: store, key, registry and an image layout. Each
// repository of the registry has a user of its own, with the repository's name.
type site struct {
	t     *testing.T
	state string
	reg   *fetchtest.Registry
	desk  *desk
	log   *logFile
	agent *Agent
	stop  func()
}

// password is what every user of the registry has.
const password = "p4ssword-of-everybody"

// logFile is written by the agent and read by the test.
type logFile struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, state: t.TempDir(), reg: fetchtest.NewRegistry(t), desk: &desk{}, log: &logFile{}}
	s.reg.Set(fetchtest.Faults{Before: func(w http.ResponseWriter, req *http.Request) bool {
		user, secret, _ := req.BasicAuth()
		if user != "" && secret == password && strings.HasPrefix(req.URL.Path, "/v2/"+user+"/") {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	return s
}

// push gives an image of a repository as the wish has it, with a credential's id.
func (s *site) push(repository string, seed int64) v1alpha1.NodeImage {
	s.t.Helper()
	d := s.reg.Push(s.t, repository+":v1", fetchtest.Image(s.t, "linux/amd64", fetchtest.Layer(s.t, seed, 2000)))
	return v1alpha1.NodeImage{Name: s.reg.Ref(s.t, repository+":v1").String(), Digest: d.String(), CredentialIDs: []string{"regcred-" + repository}}
}

// start begins with an image layout that nobody has written to, as after a lost disk.
func (s *site) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(klog.NewContext(s.t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(s.log), textlogger.Verbosity(4)))))
	memory, _, err := store.Open(ctx, s.state, "n1", trust)
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := store.OpenKey(ctx, s.state, "n1")
	if err != nil {
		s.t.Fatal(err)
	}
	ring := keyring.New(key)
	driver, err := layout.New(layout.Options{
		Dir: s.t.TempDir(), PollEvery: 50 * time.Millisecond,
		Source: fetch.NewRegistry(fetch.RegistryOptions{
			HostsDirs:   []string{s.reg.HostsDir(s.t, "")},
			Credentials: func(name imageref.Reference, host string) ([]fetch.Login, error) { return ring.For(name, host), nil },
		}),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.desk = &desk{}
	s.agent = New(memory, driver, s.desk, Options{Keyring: ring})
	done := make(chan error, 1)
	go func() { done <- s.agent.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := errors.Join(<-done, driver.Close(), memory.Close()); err != nil {
			s.t.Error(err)
		}
	}
}

// hear says what the API server says: images, with credentials that are sealed to a key.
func (s *site) hear(generation int64, to *v1alpha1.NodeKey, images ...v1alpha1.NodeImage) {
	s.t.Helper()
	spec := v1alpha1.NodeImageCacheSpec{NodeUID: "node-uid", Images: images}
	for _, img := range images {
		for _, id := range img.CredentialIDs {
			if to != nil {
				spec.Credentials = append(spec.Credentials, s.credential(to, id))
			}
		}
	}
	s.agent.Hear(&v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: generation}, Spec: spec})
}

func (s *site) credential(to *v1alpha1.NodeKey, id string) v1alpha1.SealedCredential {
	s.t.Helper()
	auth := seal.Auth{Username: strings.TrimPrefix(id, "regcred-"), Password: password}
	b, err := seal.Seal(to.Recipient, seal.Payload{Match: s.reg.Host, NodeUID: "node-uid", Auth: auth})
	if err != nil {
		s.t.Fatal(err)
	}
	return v1alpha1.SealedCredential{ID: id, Match: s.reg.Host, KeyID: to.ID, Sealed: b}
}

// await waits until the status is as wanted.
func (s *site) await(what string, ok func(*v1alpha1.NodeImageCacheStatus) bool) *v1alpha1.NodeImageCacheStatus {
	s.t.Helper()
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		if status := s.status(); status != nil && ok(status) {
			return status
		}
	}
	s.t.Fatalf("%s: status is %+v\n%s", what, s.status(), s.log)
	return nil
}

func (s *site) status() *v1alpha1.NodeImageCacheStatus {
	s.desk.mu.Lock()
	defer s.desk.mu.Unlock()
	return s.desk.last
}

// cached waits until the first n images of the status are cached.
func cached(n int) func(*v1alpha1.NodeImageCacheStatus) bool {
	return func(s *v1alpha1.NodeImageCacheStatus) bool {
		return len(s.Images) == n && !slices.ContainsFunc(s.Images, func(i v1alpha1.NodeImageStatus) bool { return i.Phase != v1alpha1.PhaseCached })
	}
}

// clean says that nothing secret was said or written anywhere.
func (s *site) clean() {
	s.t.Helper()
	b, err := json.Marshal(s.status())
	if err != nil {
		s.t.Fatal(err)
	}
	said := map[string]string{"the log": s.log.String(), "the status": string(b) + fmt.Sprintf("%v %+v %#v", s.status(), s.status(), s.agent.options)}
	for _, file := range []string{store.FileName, store.KeyFileName} {
		b, err := os.ReadFile(filepath.Join(s.state, file))
		if err != nil {
			s.t.Fatal(err)
		}
		said[file] = string(b)
	}
	for where, text := range said {
		if strings.Contains(text, password) || where != store.KeyFileName && strings.Contains(text, "SECRET-KEY") {
			s.t.Errorf("%s holds a secret", where)
		}
	}
}

// TestSealedCredentials: each image is pulled with its own, offline too, and a lost key is
// mended by sealing anew.
func TestSealedCredentials(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	app, db := s.push("app", 1), s.push("db", 2)
	s.start()
	s.hear(1, nil)
	first := s.await("with an empty spec", func(s *v1alpha1.NodeImageCacheStatus) bool { return s.Key != nil }).Key
	s.hear(2, first, app, db)
	s.await("with credentials", cached(2))
	s.clean()
	s.stop()

	s.start() // and hears nothing: what is needed rests in the store
	if got := s.agent.key(); !cmp.Equal(got, first) {
		t.Errorf("key %+v after a restart, was %+v", got, first)
	}
	s.await("offline, with another disk for images", cached(2))
	s.clean()
	s.stop()

	if err := os.Remove(filepath.Join(s.state, store.KeyFileName)); err != nil {
		t.Fatal(err)
	}
	s.start()
	lost := s.await("without the key", func(s *v1alpha1.NodeImageCacheStatus) bool {
		return len(s.Images) == 2 && s.Images[0].Reason == v1alpha1.ReasonUnauthorized && s.Images[1].Reason == v1alpha1.ReasonUnauthorized &&
			len(s.Conditions) == 2
	})
	if lost.Key == nil || lost.Key.ID == first.ID {
		t.Errorf("key %+v after it was lost, was %+v", lost.Key, first)
	}
	trouble := s.desk.condition(v1alpha1.NodeConditionDegraded)
	if want := `pull credential "regcred-app": opening a sealed credential: sealed to another key; pull credential "regcred-db": `; !strings.HasPrefix(trouble, want) {
		t.Errorf("Degraded says %q, want %q", trouble, want)
	}
	if n := strings.Count(s.log.String(), "Not all pull credentials are there"); n == 0 || n > 2 { // one each, as they are met
		t.Errorf("it was logged %d times", n)
	}
	s.hear(3, lost.Key, app, db)
	s.await("sealed anew", func(s *v1alpha1.NodeImageCacheStatus) bool { return cached(2)(s) && len(s.Conditions) == 1 })
	s.clean()
	s.stop()
}

// TestSwappedCredentials: what is sealed for a registry does not go to another one, whoever
// wrote that it should.
func TestSwappedCredentials(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	app := s.push("app", 1)
	s.start()
	s.hear(1, nil)
	key := s.await("with an empty spec", func(s *v1alpha1.NodeImageCacheStatus) bool { return s.Key != nil }).Key
	honest := s.credential(key, "regcred-app")
	moved, wrong := honest, honest
	moved.Match = "127.0.0.1:1"
	b, err := seal.Seal(key.Recipient, seal.Payload{Match: "other.example", NodeUID: "node-uid", Auth: seal.Auth{Username: "app", Password: password}})
	if err != nil {
		t.Fatal(err)
	}
	wrong.Match, wrong.Sealed = "other.example", b
	for generation, c := range []v1alpha1.SealedCredential{moved, wrong} {
		s.agent.Hear(&v1alpha1.NodeImageCache{
			ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: int64(generation) + 2},
			Spec: v1alpha1.NodeImageCacheSpec{
				NodeUID: "node-uid", Images: []v1alpha1.NodeImage{app}, Credentials: []v1alpha1.SealedCredential{c},
			},
		})
		s.await("with a swapped credential", func(s *v1alpha1.NodeImageCacheStatus) bool {
			return s.ObservedGeneration == int64(generation)+2 && len(s.Images) == 1 && s.Images[0].Reason == v1alpha1.ReasonUnauthorized && len(s.Conditions) == 2
		})
	}
	if slices.ContainsFunc(s.reg.Requests(), func(r *http.Request) bool { return r.Header.Get("Authorization") != "" }) {
		t.Error("the registry was sent a credential that is not for it")
	}
	s.clean()
	s.stop()
}

// ring is a keyring without keys.
type ring struct {
	changed []string
	err     error
}

func (*ring) Key() v1alpha1.NodeKey         { return v1alpha1.NodeKey{ID: "k1", Recipient: "age1"} }
func (r *ring) Hear(store.Desired) []string { return r.changed }
func (r *ring) Trouble() error              { return r.err }

// clerk notes the key of each status.
type clerk struct {
	mu   sync.Mutex
	echo func(*v1alpha1.NodeImageCacheStatus) // as the API server tells of every write
	keys []string
}

func (c *clerk) WriteStatus(_ context.Context, _ types.UID, s *v1alpha1.NodeImageCacheStatus) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = append(c.keys, s.Key.ID)
	c.echo(s)
	return nil
}

func (c *clerk) written() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.keys)
}

// TestKeyIsPublished: once, with an empty spec too and while the runtime is away or hangs.
func TestKeyIsPublished(t *testing.T) {
	t.Parallel()
	object := v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "uid", Generation: 1}}
	for name, set := range map[string]func(*driver) time.Duration{
		"at once": func(*driver) time.Duration { return 2 * time.Second },
		"away":    func(d *driver) time.Duration { d.away = true; return 2 * time.Second },
		"hangs":   func(d *driver) time.Duration { d.hangs = true; return 2*callTimeout + 2*time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &clerk{}
				reporter := report.NewReporter(c)
				go reporter.Run(t.Context())
				b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), to: reporter}
				within := set(b.driver)
				b.start(Options{Keyring: &ring{}})
				c.echo = func(s *v1alpha1.NodeImageCacheStatus) {
					written := object.DeepCopy()
					written.Status = *s.DeepCopy()
					reporter.Hear(written)
					b.agent.Hear(written)
				}
				b.agent.Hear(object.DeepCopy())
				time.Sleep(within)
				if got := c.written(); len(got) != 1 || got[0] != "k1" {
					t.Errorf("keys written: %v, want k1 once", got)
				}
				time.Sleep(24 * time.Hour)
				if n := len(c.written()); n != 1 {
					t.Errorf("%d writes in a day", n)
				}
				b.stop()
			})
		})
	}
}

// TestOtherCredentialsAreTriedAtOnce: and an image that failed for another reason waits.
func TestOtherCredentialsAreTriedAtOnce(t *testing.T) {
	t.Parallel()
	for reason, want := range map[fetch.Reason]int{fetch.Unauthorized: 2, fetch.NotFound: 2, fetch.DigestMismatch: 1} {
		t.Run(string(reason), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &ring{}
				b := newBench(t, Options{Keyring: r})
				b.driver.fail(reason, 1)
				b.wish(2, images(image("r.io/app:v1", d1)))
				time.Sleep(5 * time.Second)
				b.wish(2, images(image("r.io/app:v1", d1)))
				time.Sleep(5 * time.Second)
				if n := len(b.driver.calls()); n != 1 {
					t.Fatalf("tried %d times while nothing changed", n)
				}
				r.changed = []string{"r.io/app:v1", "r.io/unknown:v1"}
				b.wish(3, images(image("r.io/app:v1", d1)))
				time.Sleep(5 * time.Second)
				if n := len(b.driver.calls()); n != want {
					t.Errorf("tried %d times, want %d", n, want)
				}
				b.stop()
			})
		})
	}
}

// TestSealedCredentialsAreKept: byte by byte.
func TestSealedCredentialsAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		spec := images(image("r.io/app:v1", d1))
		spec.Credentials = []v1alpha1.SealedCredential{{ID: "c", Match: "r.io", KeyID: "k", SourceVersion: "7", Sealed: []byte{0, 1, 0xff}}}
		b.wish(2, spec)
		time.Sleep(time.Second)
		b.stop()
		b.start(Options{})
		time.Sleep(time.Second)
		b.stop()
		if diff := cmp.Diff(spec.Credentials, b.agent.desired.Spec.Credentials); diff != "" {
			t.Errorf("after a restart (-want +got):\n%s", diff)
		}
	})
}

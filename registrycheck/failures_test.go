package registrycheck

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

// host is the platform of this machine, and other one that it does not run.
var (
	host  = "linux/" + runtime.GOARCH
	other = map[bool]string{true: "linux/s390x", false: "linux/ppc64le"}[runtime.GOARCH != "s390x"]
)

// failure is one thing that can be wrong with an image, a registry or the way to it.
type failure struct {
	name string
	// set spoils a registry, in which nothing is yet, and says what to ask for.
	set    func(t *testing.T, s *server) subject
	reason Reason
	// differs says why containerd does the opposite of what the verdict says; empty
	// where it pulls what is Pullable and nothing else.
	differs string
}

// subject is what is asked for in the lab, and how.
type subject struct {
	ref      string // default app:v1 of the server
	platform string // default host
	settings access.Settings
	options  []access.Option
	keys     []keychain.Credential
	full     bool
	guarded  bool // redirects to this machine are not followed
	// hosts is containerd's hosts.toml for the registry.
	hosts string
	// apart says why containerd is not asked.
	apart string
}

// all are the failures of the lab.
func all() []failure {
	return slices.Concat(wireFailures(), authFailures(), registryFailures(), manifestFailures(), blobFailures(), contentFailures())
}

// prepare sets a failure up.
func (f failure) prepare(t *testing.T) (*server, subject) {
	t.Helper()
	s := newServer(t)
	what := f.set(t, s)
	if what.ref == "" {
		what.ref = s.ref("app:v1")
	}
	if what.platform == "" {
		what.platform = host
	}
	if what.settings.Timeout == 0 {
		what.settings.Timeout = 20 * time.Second
	}
	if !what.guarded {
		what.settings.AllowedHosts = append(what.settings.AllowedHosts, "127.0.0.1", "127.0.0.2")
	}
	return s, what
}

// check asks for the subject.
func (s subject) check(t *testing.T) Result {
	t.Helper()
	c := newChecker(t, Options{Settings: s.settings, Access: s.options})
	return c.Check(t.Context(), Request{Reference: s.ref, Platforms: parse(t, s.platform), Keychain: keychain.Of(s.keys...), Full: s.full})
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, f := range all() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			_, what := f.prepare(t)
			got := what.check(t)
			if got.Reason != f.reason || got.Verdict != f.reason.Verdict() {
				t.Fatalf("%s, %s: %s\nwant %s, %s", got.Verdict, got.Reason, got.Explain(), f.reason.Verdict(), f.reason)
			}
			if got.Verdict == Pullable {
				if got.Message != "" || got.URL != "" || got.Fix != "" {
					t.Errorf("pullable with a complaint: %+v", got.Finding)
				}
				return
			}
			if got.Message == "" || strings.Contains(got.Message, "pa55") {
				t.Errorf("message %q", got.Message)
			}
			t.Logf("%s %s: %s\n%s", got.Verdict, got.Reason, got.Explain(), got.URL)
		})
	}
}

// TestFailuresAreMany, each by another name: the documentation lists them.
func TestFailuresAreMany(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	reasons := map[Reason]bool{ReasonCancelled: true} // see TestCancelled
	for _, f := range all() {
		if seen[f.name] {
			t.Errorf("two failures are called %q", f.name)
		}
		seen[f.name], reasons[f.reason] = true, true
	}
	if len(seen) < 60 {
		t.Errorf("%d failures", len(seen))
	}
	for reason := range verdicts {
		if !reasons[reason] {
			t.Errorf("no failure gives %s", reason)
		}
	}
}

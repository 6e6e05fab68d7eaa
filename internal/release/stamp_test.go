package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
)

// git runs git in dir with fixed names and times.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=test", "-c", "user.email=test@test.test", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=@1767323045 +0100", "GIT_AUTHOR_DATE=@1767323045 +0100", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository is a copy of the tree with one commit.
func repository(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	dir := tree(t)
	git(t, dir, "init", "-q")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-q", "-m", "first")
	return dir
}

//nolint:paralleltest // changes the environment
func TestReadStamp(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dirty := func(t *testing.T, dir string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.test/tree\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		prepare func(t *testing.T, dir string)
		given   string
		want    func(commit string) stamp // without time
	}{
		"untagged": {nil, "", func(c string) stamp {
			return stamp{version: "v0.0.0-g" + c[:7], commit: c, kubernetes: "v1.37.2"}
		}},
		"tagged": {func(t *testing.T, dir string) { t.Helper(); git(t, dir, "tag", "v0.3.0") }, "", func(c string) stamp {
			return stamp{version: "v0.3.0", commit: c, kubernetes: "v1.37.2"}
		}},
		"after a tag": {func(t *testing.T, dir string) {
			t.Helper()
			git(t, dir, "tag", "v0.3.0")
			git(t, dir, "commit", "-q", "--allow-empty", "-m", "second")
		}, "", func(c string) stamp {
			return stamp{version: "v0.3.0-1-g" + c[:7], commit: c, kubernetes: "v1.37.2"}
		}},
		"changed": {dirty, "", func(c string) stamp {
			return stamp{version: "v0.0.0-g" + c[:7] + "-dirty", commit: c, dirty: true}
		}},
		"version given": {nil, "v9.9.9", func(c string) stamp {
			return stamp{version: "v9.9.9", commit: c, kubernetes: "v1.37.2"}
		}},
		"tag that is no version": {func(t *testing.T, dir string) { t.Helper(); git(t, dir, "tag", "nightly") }, "", func(c string) stamp {
			return stamp{version: "v0.0.0-gnightly", commit: c, kubernetes: "v1.37.2"}
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := repository(t)
			if tc.prepare != nil {
				tc.prepare(t, dir)
			}
			got, err := readStamp(t.Context(), dir, tc.given)
			if err != nil {
				t.Fatal(err)
			}
			want := tc.want(git(t, dir, "rev-parse", "HEAD"))
			want.time = time.Unix(1767323045, 0).UTC()
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(stamp{})); diff != "" {
				t.Errorf("stamp (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("no repository", func(t *testing.T) {
		got, err := readStamp(t.Context(), tree(t), "")
		want := stamp{version: "v0.0.0-unknown", commit: "unknown", time: time.Unix(0, 0).UTC(), kubernetes: "v1.37.2"}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(stamp{})); err != nil || diff != "" {
			t.Errorf("%v, stamp (-want +got):\n%s", err, diff)
		}
	})
	t.Run("the environment's time counts more", func(t *testing.T) {
		t.Setenv("SOURCE_DATE_EPOCH", "86400")
		got, err := readStamp(t.Context(), repository(t), "")
		if err != nil || !got.time.Equal(time.Unix(86400, 0)) {
			t.Errorf("time %s, %v", got.time, err)
		}
	})
}

func TestVersions(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dir := tree(t)
	for version, ok := range map[string]bool{
		"v1.2.3": true, "v0.0.0-g59d4e58-dirty": true, "v1.2.3-rc.1": true, "v1.2.3-3-g0123456": true,
		"1.2.3": false, "v1.2": false, "v1.2.3+build": false, "v01.2.3": false, "v1.2.3-": false, "v1.2.3-a..b": false,
		"v1.2.3\t": false, "latest": false, "v1.2.3-" + strings.Repeat("a", 128): false,
	} {
		if _, err := readStamp(t.Context(), dir, version); (err == nil) != ok {
			t.Errorf("version %q: %v, want accepted: %v", version, err, ok)
		}
	}
}

func TestLdflags(t *testing.T) {
	t.Parallel()
	s := stamp{version: "v0.1.0", commit: "abc", dirty: true, time: time.Unix(1767323045, 0).UTC(), kubernetes: "v1.37.2"}
	got, err := s.ldflags(binary{name: "edgecache-controller"})
	if err != nil {
		t.Fatal(err)
	}
	const want = "-s -w -X k8s.io/component-base/version.gitVersion=v0.1.0 -X k8s.io/component-base/version.gitCommit=abc" +
		" -X k8s.io/component-base/version.gitTreeState=dirty -X k8s.io/component-base/version.buildDate=2026-01-02T03:04:05Z" +
		" -X k8s.io/client-go/pkg/version.gitVersion=v0.1.0 -X k8s.io/client-go/pkg/version.gitCommit=abc"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
	got, err = s.ldflags(catalog()["edgecache-scheduler"])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gitVersion=v1.37.2+edgecache.v0.1.0 ", "gitMajor=1 ", "gitMinor=37 "} {
		if !strings.Contains(got, want) {
			t.Errorf("flags of the scheduler have no %q: %s", want, got)
		}
	}
	s.kubernetes = ""
	if _, err := s.ldflags(catalog()["edgecache-scheduler"]); err == nil || !strings.Contains(err.Error(), "k8s.io/component-base is not in go.mod") {
		t.Errorf("error = %v", err)
	}
}

// TestSchedulerKnowsItsKubernetes: the stamp reaches the program.
func TestSchedulerKnowsItsKubernetes(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", epoch)
	dir := tree(t)
	s, err := readStamp(t.Context(), dir, "v0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	target, err := platforms.Parse(native())
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "scheduler")
	bin := catalog()["edgecache-scheduler"]
	bin.name = "edgecache-scheduler"
	if err := (builder{root: dir, stamp: s}).compile(t.Context(), bin, target, program); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "version=v1.37.2+edgecache.v0.1.0\n") || !strings.Contains(string(out), "major=1 minor=37\n") {
		t.Errorf("output %s", out)
	}
}

func TestParsePlatforms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		list  []string
		want  string
		fails string
	}{
		"usual":              {[]string{"linux/amd64", "linux/arm64", "linux/arm/v7"}, "linux/amd64 linux/arm64 linux/arm/v7", ""},
		"other spellings":    {[]string{"linux/x86_64", "linux/aarch64", "linux/arm"}, "linux/amd64 linux/arm64 linux/arm/v7", ""},
		"architecture alone": {[]string{"amd64"}, "", "write it as os/arch"},
		"nonsense":           {[]string{"linux/a/b/c"}, "", "write it as os/arch"},
		"other system":       {[]string{"darwin/arm64"}, "", "for linux only"},
		"twice":              {[]string{"linux/arm", "linux/arm/v7"}, "", "given twice"},
		"none":               {nil, "", "no platform given"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parsePlatforms(tc.list)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("error = %v, want one containing %q", err, tc.fails)
				}
				return
			}
			var text []string
			for _, p := range got {
				text = append(text, platforms.Format(p))
			}
			if joined := strings.Join(text, " "); err != nil || joined != tc.want {
				t.Errorf("platforms %q, %v, want %q", joined, err, tc.want)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	for platform, want := range map[string][]string{
		"linux/amd64":      {"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1"},
		"linux/amd64/v3":   {"GOARCH=amd64", "GOAMD64=v3"},
		"linux/arm64":      {"GOARCH=arm64", "GOARM64=v8.0"},
		"linux/arm64/v9":   {"GOARCH=arm64", "GOARM64=v9.0"},
		"linux/arm64/v8.2": {"GOARCH=arm64", "GOARM64=v8.2"},
		"linux/arm/v7":     {"GOARCH=arm", "GOARM=7"},
		"linux/arm/v6":     {"GOARCH=arm", "GOARM=6"},
		"linux/s390x":      {"GOARCH=s390x"},
	} {
		p, err := platforms.Parse(platform)
		if err != nil {
			t.Fatal(err)
		}
		last := map[string]string{} // as os/exec reads it: the last one counts
		for _, kv := range environment(p) {
			k, v, _ := strings.Cut(kv, "=")
			last[k] = v
		}
		for _, kv := range want {
			k, v, _ := strings.Cut(kv, "=")
			if last[k] != v {
				t.Errorf("%s: %s=%s, want %s", platform, k, last[k], v)
			}
		}
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	for name, b := range catalog() {
		if b.description == "" || b.name != "" {
			t.Errorf("%s: description %q, name %q", name, b.description, b.name)
		}
		if (b.user == rootUser) != (name == "edgecache-agent") {
			t.Errorf("%s runs as %q: only the agent needs root", name, b.user)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Packages whose variables hold the version.
const (
	componentVersion = "k8s.io/component-base/version"
	clientVersion    = "k8s.io/client-go/pkg/version"
)

// stamp is what a binary and its image say about their origin.
type stamp struct {
	version string // vX.Y.Z[-suffix], also a valid image tag
	commit  string // "unknown" outside a git repository
	dirty   bool
	time    time.Time // UTC, whole seconds
	// kubernetes is the release of the Kubernetes libraries, "v1.37.2"; "" when the
	// module does not use them.
	kubernetes string
}

// versionPattern is semantic versioning without build metadata, whose + no image tag may
// hold. component-base/metrics panics on a version that does not begin like this.
const versionPattern = `^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`

// readStamp asks git and the environment. version, where given, counts more than git.
func readStamp(ctx context.Context, root, version string) (stamp, error) {
	s := stamp{version: version, commit: "unknown", time: time.Unix(0, 0).UTC()}
	if commit, err := output(ctx, root, "git", "rev-parse", "--verify", "HEAD"); err == nil {
		s.commit = commit
		if err := s.readGit(ctx, root); err != nil {
			return stamp{}, err
		}
	}
	if s.version == "" {
		s.version = "v0.0.0-unknown"
	}
	if ok, err := regexp.MatchString(versionPattern, s.version); err != nil || !ok {
		return stamp{}, fmt.Errorf("version %q: write it as v1.2.3 or v1.2.3-rc.1", s.version)
	}
	if len(s.version) > maxTag {
		return stamp{}, fmt.Errorf("version %q: longer than %d characters", s.version, maxTag)
	}
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil || seconds < 0 {
			return stamp{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: must be seconds since 1970", epoch)
		}
		s.time = time.Unix(seconds, 0).UTC()
	}
	s.kubernetes = kubernetesVersion(ctx, root)
	return s, nil
}

// maxTag is the longest tag of an image.
const maxTag = 128

func (s *stamp) readGit(ctx context.Context, root string) error {
	seconds, err := output(ctx, root, "git", "log", "-1", "--format=%ct")
	if err != nil {
		return fmt.Errorf("reading the commit's time: %w", err)
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("reading the commit's time %q: %w", seconds, err)
	}
	s.time = time.Unix(n, 0).UTC()
	described, err := output(ctx, root, "git", "describe", "--tags", "--always", "--dirty")
	if err != nil {
		return fmt.Errorf("describing the commit: %w", err)
	}
	s.dirty = strings.HasSuffix(described, "-dirty")
	if s.version == "" {
		s.version = versionOf(described)
	}
	return nil
}

// versionOf turns git's description into a version: v0.1.0-3-g59d4e58 is one, a bare
// commit before the first tag becomes v0.0.0-g59d4e58.
func versionOf(described string) string {
	if ok, _ := regexp.MatchString(versionPattern, described); ok { // the pattern is constant
		return described
	}
	return "v0.0.0-g" + described
}

// kubernetesVersion gives the release that belongs to the module's component-base:
// v0.37.2 is that of Kubernetes v1.37.2.
func kubernetesVersion(ctx context.Context, root string) string {
	v, err := output(ctx, root, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/component-base")
	if rest, ok := strings.CutPrefix(v, "v0."); ok && err == nil {
		return "v1." + rest
	}
	return ""
}

// ldflags gives the linker flags for a binary: no symbols, and the version where
// --version, the metrics and the User-Agent take it from.
//
// A program made from a component of Kubernetes says that component's version with ours
// behind the +: its feature gates compare the number with the releases that know them.
func (s stamp) ldflags(b binary) (string, error) {
	version := s.version
	flags := []string{"-s", "-w"}
	set := func(pkg, name, value string) { flags = append(flags, "-X", pkg+"."+name+"="+value) }
	if b.kubernetes {
		if s.kubernetes == "" {
			return "", errors.New("it is built from Kubernetes, but k8s.io/component-base is not in go.mod")
		}
		version = s.kubernetes + "+edgecache." + s.version
		parts := strings.SplitN(strings.TrimPrefix(s.kubernetes, "v"), ".", 3)
		set(componentVersion, "gitMajor", parts[0])
		set(componentVersion, "gitMinor", parts[1])
	}
	state := "clean"
	if s.dirty {
		state = "dirty"
	}
	set(componentVersion, "gitVersion", version)
	set(componentVersion, "gitCommit", s.commit)
	set(componentVersion, "gitTreeState", state)
	set(componentVersion, "buildDate", s.time.Format(time.RFC3339))
	set(clientVersion, "gitVersion", version)
	set(clientVersion, "gitCommit", s.commit)
	return strings.Join(flags, " "), nil
}

// output runs a program and gives what it prints, trimmed; the error has what it
// complains about.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

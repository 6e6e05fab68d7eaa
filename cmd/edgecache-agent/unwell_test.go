package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/meta"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/test/lab/omit"
)

// TestAReadOnlyStateDirectory: an agent whose disk has gone read-only does not end. It answers,
// and says why it does not work.
func TestAReadOnlyStateDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		omit.Test(t, "only root can mount a disk")
	}
	dir := shortDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		omit.Test(t, "mounting a disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	says(t, dir, func(s *local.Status) bool { return strings.Contains(s.Runtime.Error, syscall.EROFS.Error()) })
}

// TestPluginsThatAreNotThere: a configuration of credential providers that is missing on the
// node is said, and does not end the agent.
func TestPluginsThatAreNotThere(t *testing.T) {
	t.Parallel()
	says(t, shortDir(t), func(s *local.Status) bool {
		c := meta.FindStatusCondition(s.Conditions, v1alpha1.NodeConditionDegraded)
		return c != nil && strings.Contains(c.Message, "credential providers") && s.Source == local.FromRuntime
	}, "--image-credential-provider-config=/none/config.yaml", "--image-credential-provider-bin-dir=/none")
}

// says runs an agent on an image layout until it says something, and sees that it is well and
// goes when it is told to.
func says(t *testing.T, dir string, what func(*local.Status) bool, args ...string) {
	t.Helper()
	args = append([]string{"run", "--node-name=node-1", "--state-dir=" + dir, "--serve-address=", "--manifest=" + t.TempDir(), "--runtime=layout"}, args...)
	agent := exec.CommandContext(t.Context(), os.Args[0], args...)
	var log strings.Builder
	agent.Stdout, agent.Stderr = &log, &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	for {
		s, err := local.Ask(t.Context(), dir)
		if err == nil && what(s) {
			break
		}
		select {
		case how := <-ended:
			t.Fatalf("it ended: %v, asked: %+v, %v\n%s", how, s, err, &log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := local.Healthy(t.Context(), dir); err != nil {
		t.Errorf("health: %v", err)
	}
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("told to stop: %v\n%s", err, &log)
	}
}

// TestAwaitDriver: what a disk does is waited out and told, what is wrong with settings is not.
func TestAwaitDriver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for failure, waits := range map[error]bool{
			&os.PathError{Op: "mkdir", Path: "/x", Err: syscall.EROFS}:   true,
			&os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}:  true,
			&os.PathError{Op: "mkdir", Path: "/x", Err: syscall.ENOTDIR}: false,
			errors.New(`layout version is "2", want 1.x`):                false,
		} {
			var told error
			left := 3
			_, err := awaitDriver(t.Context(), func(err error) { told = err }, func() (runtime.Driver, error) {
				if left--; left < 0 {
					return nil, nil
				}
				return nil, failure
			})
			if waits && (err != nil || told == nil) || !waits && !errors.Is(err, failure) {
				t.Errorf("%v: ended with %v, told %v", failure, err, told)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if d, err := awaitDriver(ctx, func(error) {}, func() (runtime.Driver, error) { return nil, syscall.EROFS }); d != nil || err != nil {
			t.Errorf("told to stop: %v, %v", d, err)
		}
	})
}

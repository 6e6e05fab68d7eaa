package links

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edgecache.dev/test/lab/omit"
)

// TestKernelTellsOfChanges: a link that comes up in a network of our own is told.
func TestKernelTellsOfChanges(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hints, err := make(chan (<-chan struct{}), 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its network
		if e := unix.Unshare(unix.CLONE_NEWNET); e != nil {
			err <- fmt.Errorf("a network of its own: %w", e)
			return
		}
		hints <- NetworkChanges(ctx)
		err <- raiseLoopback()
	}()
	switch e := <-err; {
	case errors.Is(e, unix.EPERM):
		omit.Test(t, "%v", e)
	case e != nil:
		t.Fatal(e)
	}
	select {
	case <-<-hints:
	case <-time.After(time.Minute):
		t.Error("nothing was told")
	}
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

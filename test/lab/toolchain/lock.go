package toolchain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockPoll is the time between two tries for the lock; flock itself cannot be cancelled.
	lockPoll = 100 * time.Millisecond
	// lockPatience is the wait that needs no explanation: a build of the product from a warm cache is shorter.
	lockPatience = 5 * time.Second
)

// lock makes this process the only one that writes to .cache/bin until the returned function is called.
func (t *Toolchain) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(t.bin, 0o755); err != nil {
		return nil, fmt.Errorf("locking the lab's binaries: %w", err)
	}
	f, err := os.OpenFile(t.Path(".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the lab's binaries: %w", err)
	}
	if err := t.flock(ctx, f); err != nil {
		return nil, fmt.Errorf("locking the lab's binaries: %w", errors.Join(err, f.Close()))
	}
	return func() { _ = f.Close() }, nil
}

func (t *Toolchain) flock(ctx context.Context, f *os.File) error {
	explain := time.After(lockPatience)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-explain:
			fmt.Fprintf(t.out, "another process builds into %s; waiting for it\n", t.bin)
		case <-time.After(lockPoll):
		}
	}
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"edgecache.dev/internal/pause"
)

// Exit statuses with which a child tells what CheckFile found.
const (
	exitDamaged = 3
	exitLocked  = 4
)

// ExitCode gives the exit status that tells InChild what CheckFile found.
func ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDamaged):
		return exitDamaged
	case errors.Is(err, ErrLocked):
		return exitLocked
	}
	return 1
}

const (
	// childWait bounds one check of a file: 64 MiB on a slow card take seconds.
	childWait = time.Minute
	// childTries is how often a check is begun that somebody else ended.
	childTries = 3
	// childPause is between them: memory that ran out may be there again.
	childPause = 2 * time.Second
)

// CheckFile reads every record of a store file and verifies bbolt's own structure. It
// gives a damage error (IsDamage) or one that says why the file could not be read.
//
// Damage can be such that reading it ends the process by a signal that cannot be caught:
// a length beyond the end of the file is an access beyond the end of the mapping. It is
// therefore run in a child process; see InChild.
func CheckFile(path string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("reading store %s: %v: %w", path, r, errDamaged)
		}
	}()
	if info, err := os.Stat(path); err == nil && info.Size() == 0 {
		return fmt.Errorf("store %s is empty: %w", path, errDamaged)
	}
	db, err := openFile(path, true)
	if err != nil {
		return err
	}
	id, err := identity(db, path)
	if err == nil {
		err = check(db, path, id.Schema)
	}
	return errors.Join(err, db.Close())
}

// IsDamage says whether an error means that the file cannot be trusted.
func IsDamage(err error) bool { return errors.Is(err, errDamaged) }

// check reads a file of a schema. Of a newer one only bbolt's own structure is looked at:
// what is in it, that release knows.
func check(db *bolt.DB, path string, of int) error {
	return db.View(func(tx *bolt.Tx) error {
		all := bucketsOf(of)
		if of == schema && tx.Bucket([]byte(bucketLinks)) != nil { // made with its first record
			all = append(slices.Clip(all), bucketLinks)
		}
		for _, b := range all {
			if err := each(tx, b, func(key string, v []byte) error { return decode(b, key, v, new(any)) }); err != nil {
				return err
			}
		}
		var first error
		for found := range tx.Check() { // drained, or its goroutine stays
			if first == nil {
				first = fmt.Errorf("store %s: %w: %w", path, found, errDamaged)
			}
		}
		return first
	})
}

func bucketsOf(of int) []string {
	switch {
	case of > schema:
		return nil
	case of < schema:
		return buckets[:3] // before there was a journal
	}
	return buckets
}

// InChild gives a Validator that runs a command with the file's path as its last
// argument. The command runs CheckFile and exits with ExitCode. A fault is damage; being
// ended from outside, by a signal or the context, says nothing of the file: the check is
// begun anew, and fails without a verdict when it is ended again.
func InChild(argv ...string) Validator {
	return func(ctx context.Context, path string) error {
		for try := 1; ; try++ {
			err := runChild(ctx, argv, path)
			if try == childTries || !errors.Is(err, errNoVerdict) || !pause.For(ctx, childPause) {
				return err
			}
		}
	}
}

func runChild(ctx context.Context, argv []string, path string) error {
	ctx, cancel := context.WithTimeout(ctx, childWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], path)...)
	cmd.Env = append(os.Environ(), "GOTRACEBACK=none")
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("checking store %s: %w: %w", path, errNoVerdict, context.Cause(ctx))
	}
	return verdict(path, err, said.String())
}

// errNoVerdict says that a check was ended before it could tell.
var errNoVerdict = errors.New("the check was ended before it could tell whether the file is intact, and the file is left as it is")

// verdict turns how the child ended into what is known of the file.
func verdict(path string, err error, said string) error {
	exit, ran := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return nil
	case !ran:
		return fmt.Errorf("checking store %s: %w", path, err)
	case exit.ExitCode() == exitLocked:
		return fmt.Errorf("checking store %s: %w", path, ErrLocked)
	case exit.ExitCode() == exitDamaged:
		return fmt.Errorf("checking store: %s: %w", firstLine(said), errDamaged)
	case exit.ExitCode() == goPanicked, faulted(exit):
		return fmt.Errorf("checking store %s: the check crashed (%s, %s): %w", path, exit.ProcessState, firstLine(said), errDamaged)
	case exit.ExitCode() == signalled:
		return fmt.Errorf("checking store %s: %w (%s)", path, errNoVerdict, exit.ProcessState)
	}
	return fmt.Errorf("checking store %s: %s", path, firstLine(said))
}

const (
	signalled  = -1 // ended by a signal
	goPanicked = 2  // a fault or panic that the Go runtime reported
)

// faulted says whether the child was ended by a signal that its own doing raises. Others
// come from whoever stops the agent, or from the kernel when memory runs out.
func faulted(exit *exec.ExitError) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return false
	}
	switch status.Signal() {
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGABRT, syscall.SIGFPE, syscall.SIGILL:
		return true
	}
	return false
}

func firstLine(s string) string {
	line, _, _ := bytes.Cut([]byte(s), []byte("\n"))
	if len(line) == 0 {
		return "no message"
	}
	return string(line)
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	bolt "go.etcd.io/bbolt"
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

// childWait bounds the check of a file: 64 MiB on a slow card take seconds.
const childWait = time.Minute

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
	s := &Store{db: db, path: path}
	id, err := s.identity()
	if err == nil && id.Schema <= schema {
		err = s.check()
	}
	return errors.Join(err, s.Close())
}

// IsDamage says whether an error means that the file cannot be trusted.
func IsDamage(err error) bool { return errors.Is(err, errDamaged) }

func (s *Store) check() error {
	return s.db.View(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if err := each(tx, b, func(key string, v []byte) error { return decode(b, key, v, new(any)) }); err != nil {
				return err
			}
		}
		var first error
		for found := range tx.Check() { // drained, or its goroutine stays
			if first == nil {
				first = fmt.Errorf("store %s: %w: %w", s.path, found, errDamaged)
			}
		}
		return first
	})
}

// InChild gives a Validator that runs a command with the file's path as its last
// argument. The command runs CheckFile and exits with ExitCode; being ended by a signal is
// damage.
func InChild(argv ...string) Validator {
	return func(ctx context.Context, path string) error {
		ctx, cancel := context.WithTimeout(ctx, childWait)
		defer cancel()
		cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], path)...)
		cmd.Env = append(os.Environ(), "GOTRACEBACK=none")
		var said bytes.Buffer
		cmd.Stderr = &said
		return verdict(path, cmd.Run(), said.String())
	}
}

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
	case exit.ExitCode() == crashed, exit.ExitCode() == goPanicked:
		return fmt.Errorf("checking store %s: the check crashed (%s): %w", path, firstLine(said), errDamaged)
	}
	return fmt.Errorf("checking store %s: %s", path, firstLine(said))
}

const (
	crashed    = -1 // ended by a signal
	goPanicked = 2  // a fault or panic that the Go runtime reported
)

func firstLine(s string) string {
	line, _, _ := bytes.Cut([]byte(s), []byte("\n"))
	if len(line) == 0 {
		return "no message"
	}
	return string(line)
}

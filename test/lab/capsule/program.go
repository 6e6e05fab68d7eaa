package capsule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"edgecache.dev/test/lab/process"
)

// errPowerCut is how programs end whose capsule has ended.
var errPowerCut = errors.New("ended with its capsule")

// program is a program that runs in a capsule.
type program struct {
	capsule *Capsule
	pid     int
	done    chan struct{} // closed after err is set
	err     error
}

var _ process.Running = (*program)(nil)

func (p *program) end(err error) {
	p.err = err
	close(p.done)
}

// Pid returns the process id inside the capsule.
func (p *program) Pid() int { return p.pid }

func (p *program) Signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	_, err := p.capsule.ask(context.Background(), request{Signal: &signal{Pid: p.pid, Signal: int(s)}})
	if err != nil && p.capsule.hasEnded() {
		return os.ErrProcessDone
	}
	return err
}

func (p *program) Wait() error {
	<-p.done
	return p.err
}

func (c *Capsule) hasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone != nil
}

// statusError says in words how a program ended; nil is exit status 0.
func statusError(status syscall.WaitStatus) error {
	switch {
	case status.Signaled():
		return fmt.Errorf("signal: %s", status.Signal())
	case status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", status.ExitStatus())
	default:
		return nil
	}
}

// lookPath finds a program; system folders are searched too, which are not in every user's PATH.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, name); isProgram(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("finding %s: %w", name, exec.ErrNotFound)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// openLog opens a program's log file for appending; empty is no log.
func openLog(path string) (*os.File, error) {
	if path == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

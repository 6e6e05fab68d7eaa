package labdir

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// A Janitor is a process that clears a lab away when the lab's process ends without having done so.
type Janitor struct {
	alive io.Closer
	cmd   *exec.Cmd
}

// Hire starts the janitor of d: command is run with the lab's entry as last argument and must call [Clean] with its
// standard input. The process has a session of its own, so that what ends the lab does not end it as well.
func (d *Dir) Hire(command ...string) (*Janitor, error) {
	cmd := exec.Command(command[0], append(command[1:], d.entry)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Anywhere but in the lab's folder and the caller's, which it must not keep busy.
	cmd.Dir = "/"
	alive, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("hiring a janitor: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("hiring a janitor: %w", err)
	}
	return &Janitor{alive: alive, cmd: cmd}, nil
}

// Dismiss ends the janitor, who finds nothing to do if the lab was closed.
func (j *Janitor) Dismiss() error {
	if err := errors.Join(j.alive.Close(), j.cmd.Wait()); err != nil {
		return fmt.Errorf("dismissing the janitor: %w", err)
	}
	return nil
}

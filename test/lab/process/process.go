package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// Grace is how long Stop waits for a program to end by itself. It is longer than what any of the lab's programs needs on
// a loaded machine, and far below a test's deadline.
const Grace = time.Minute

// readyPoll is the time between two probes of a starting program.
const readyPoll = 50 * time.Millisecond

// A Process is a program that can be stopped, killed and started again.
type Process struct {
	starter Starter
	command Command

	mu  sync.Mutex // guards run
	run *run       // the present or last incarnation
}

// run is one incarnation of a program.
type run struct {
	Running
	began time.Time
	done  chan struct{} // closed after err is set
	err   error
}

// Start runs c where s says.
func Start(s Starter, c Command) (*Process, error) {
	if len(c.Argv) == 0 {
		return nil, fmt.Errorf("starting %s: no command given", c.Name)
	}
	p := &Process{starter: s, command: c}
	if err := p.begin(); err != nil {
		return nil, err
	}
	return p, nil
}

// begin starts a new incarnation; the caller holds mu or is the only one who knows p.
func (p *Process) begin() error {
	running, err := p.starter.Start(p.command)
	if err != nil {
		return err
	}
	r := &run{Running: running, began: time.Now(), done: make(chan struct{})}
	p.run = r
	go func() {
		r.err = running.Wait()
		close(r.done)
	}()
	return nil
}

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// Name returns the command's name.
func (p *Process) Name() string { return p.command.Name }

// Log returns the path of the log file.
func (p *Process) Log() string { return p.command.Log }

// Pid returns the process id of the present or last incarnation, as its starter's surroundings see it.
func (p *Process) Pid() int { return p.current().Pid() }

// Done returns a channel that is closed when the present incarnation has ended. A restart makes a new channel.
func (p *Process) Done() <-chan struct{} { return p.current().done }

// Running reports whether the program runs.
func (p *Process) Running() bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// Err says how the program ended, with the tail of its log. It is nil while the program runs and after exit status 0.
func (p *Process) Err() error {
	r := p.current()
	select {
	case <-r.done:
	default:
		return nil
	}
	if r.err == nil {
		return nil
	}
	return p.ended(r)
}

// ended is the error that describes the end of r, whatever its exit status.
func (p *Process) ended(r *run) error {
	how := errors.New("exit status 0")
	if r.err != nil {
		how = r.err
	}
	return &EndedError{Name: p.command.Name, After: time.Since(r.began), Log: p.command.Log, Err: how}
}

// Signal sends s to the program.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.current().Signal(s); err != nil {
		return fmt.Errorf("signalling %s: %w", p.command.Name, err)
	}
	return nil
}

// Stop asks the program to end (SIGTERM), waits at most grace, then kills it. It returns when the program is gone; a
// program that had already ended, or ends badly after being asked, is not an error.
func (p *Process) Stop(grace time.Duration) error {
	r := p.current()
	if err := r.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.command.Name, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-r.done:
		return nil
	case <-timer.C:
		return p.kill(r)
	}
}

// Kill ends the program with SIGKILL and returns when it is gone. A program that had already ended is not an error.
func (p *Process) Kill() error { return p.kill(p.current()) }

func (p *Process) kill(r *run) error {
	if err := r.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.command.Name, err)
	}
	<-r.done
	return nil
}

// Restart starts the program again with the same command after it was stopped, was killed or ended.
func (p *Process) Restart() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.run.done:
		return p.begin()
	default:
		return fmt.Errorf("restarting %s: it still runs with process id %d", p.command.Name, p.run.Pid())
	}
}

// WaitReady calls probe until it returns nil. It gives up when the program ends or ctx does, and then says why probe
// was not content.
func (p *Process) WaitReady(ctx context.Context, probe func(context.Context) error) error {
	r := p.current()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("waiting for %s: %w", p.command.Name, p.ended(r))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w%s", p.command.Name, context.Cause(ctx), err, quoteTail(p.command.Log))
		case <-time.After(readyPoll):
		}
	}
}

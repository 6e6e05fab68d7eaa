package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// Host starts commands as children of this process. The kernel kills them when this process ends.
type Host struct {
	// Cloneflags are the namespaces that a child begins (CLONE_NEWPID and so on); 0 is none.
	Cloneflags uintptr
	// Files are given to the child as descriptors 3 and up.
	Files []*os.File
}

var _ Starter = Host{}

// Start starts c. See Starter.
func (h Host) Start(c Command) (Running, error) {
	log, err := openLog(c.Log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := &exec.Cmd{
		Path: c.Argv[0], Args: c.Argv, Env: c.Env, Dir: c.Dir,
		Stdout: log, Stderr: log, ExtraFiles: h.Files,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: h.Cloneflags},
	}
	if c.Env == nil {
		cmd.Env = CleanEnv()
	}
	r := &child{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go r.own(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	return r, nil
}

func openLog(path string) (*os.File, error) {
	if path == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}

// child is a running child of this process.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed after err is set
	err   error
}

// own starts the child and waits for it on one thread of its own. Pdeathsig fires when the *thread* that forked ends
// (golang/go#27505), so that thread must live as long as the child; it is never given back to the scheduler.
func (c *child) own(started chan<- error) {
	runtime.LockOSThread()
	err := c.cmd.Start()
	started <- err
	if err == nil {
		c.err = c.cmd.Wait()
		close(c.ended)
	}
}

func (c *child) Pid() int { return c.cmd.Process.Pid }

func (c *child) Signal(s syscall.Signal) error { return c.cmd.Process.Signal(s) }

func (c *child) Wait() error {
	<-c.ended
	return c.err
}

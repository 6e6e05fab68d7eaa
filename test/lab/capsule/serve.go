package capsule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	ossignal "os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Serve is the inside of a capsule: it does what it is asked over the inherited socket until the other end is closed. The
// caller must exit when it returns, upon which the kernel ends everything else in the capsule.
func Serve() error {
	if os.Getpid() != 1 {
		return errors.New("serving a capsule: this process is not number one of its PID namespace; only the lab starts capsules")
	}
	if err := enter(); err != nil {
		return fmt.Errorf("entering the control groups' namespace: %w", err)
	}
	syscall.CloseOnExec(socketFD)
	socket := os.NewFile(socketFD, "capsule")
	s := newServer(socket)
	children := make(chan os.Signal, 1)
	ossignal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			s.reap()
		}
	}()
	return s.serve(socket)
}

// enteredEnv marks the second life of number one.
const enteredEnv = "EDGECACHE_LAB_CAPSULE_ENTERED"

// enter waits until the outside has put this process where it belongs and then, if it is told to, makes a control group
// namespace, for good. A namespace is a thread's own; executing the program anew makes this thread the only one, and all
// later ones follow it.
func enter() error {
	if os.Getenv(enteredEnv) != "" {
		return os.Unsetenv(enteredEnv)
	}
	var word [1]byte
	if n, err := syscall.Read(socketFD, word[:]); n != 1 {
		return fmt.Errorf("waiting for the word to begin: %d bytes, %w", n, err)
	}
	if word[0] != withCgroups {
		return nil
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), enteredEnv+"=1"))
}

// server does what the outside asks for.
type server struct {
	out *sender

	// mu guards children. A program is started, entered here and announced under the lock, and so is its end, so that
	// the reaper never meets one it does not know and the outside never hears of an end before the start.
	mu       sync.Mutex
	children map[int]func(syscall.WaitStatus)
}

func newServer(w io.Writer) *server {
	return &server{out: newSender(w), children: map[int]func(syscall.WaitStatus){}}
}

func (s *server) serve(r io.Reader) error {
	for decoder := json.NewDecoder(r); ; {
		var q request
		err := decoder.Decode(&q)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		s.handle(q)
	}
}

func (s *server) handle(q request) {
	switch {
	case q.Start != nil:
		s.start(q.ID, q.Start)
	case q.Run != nil:
		s.run(q.ID, q.Run)
	case q.Signal != nil:
		s.answer(reply{ID: q.ID}, s.signal(q.Signal))
	case q.Setup != nil:
		s.answer(reply{ID: q.ID}, q.Setup.apply())
	default:
		s.answer(reply{ID: q.ID}, errors.New("an empty request"))
	}
}

// answer sends r, with err's text if there is one. If the outside is gone, reading ends as well.
func (s *server) answer(r reply, err error) {
	if err != nil {
		r.Error = err.Error()
	}
	_ = s.out.send(message{Reply: &r})
}

// start starts a program and answers with its process id.
func (s *server) start(id int, q *start) {
	log, err := openLog(q.Log)
	if err != nil {
		s.answer(reply{ID: id}, err)
		return
	}
	defer closeFile(log)
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := fork(q.Argv, q.Env, q.Dir, log)
	if err == nil {
		s.children[pid] = func(status syscall.WaitStatus) {
			_ = s.out.send(message{Ended: &ended{Pid: pid, Status: uint32(status)}})
		}
	}
	s.answer(reply{ID: id, Pid: pid}, err)
}

// run starts a command, collects its output and answers when it has ended.
func (s *server) run(id int, q *run) {
	reader, writer, err := os.Pipe()
	if err != nil {
		s.answer(reply{ID: id}, err)
		return
	}
	status := make(chan syscall.WaitStatus, 1)
	s.mu.Lock()
	pid, err := fork(q.Argv, os.Environ(), "/", writer)
	if err == nil {
		s.children[pid] = func(w syscall.WaitStatus) { status <- w }
	}
	s.mu.Unlock()
	closeFile(writer)
	go func() {
		defer closeFile(reader)
		if err != nil {
			s.answer(reply{ID: id}, err)
			return
		}
		output, err := io.ReadAll(reader)
		s.answer(reply{ID: id, Status: uint32(<-status), Output: string(output)}, err)
	}()
}

// fork starts a program in a session of its own. It does not use os/exec, whose Wait would compete with the reaper.
func fork(argv, env []string, dir string, output *os.File) (int, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer closeFile(null)
	return syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir: dir, Env: env,
		Files: []uintptr{null.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// closeFile closes a file whose fate no longer matters here.
func closeFile(f *os.File) { _ = f.Close() }

// signal signals a program, unless it has been reaped: its number may be another's by now.
func (s *server) signal(q *signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.children[q.Pid] == nil {
		return os.ErrProcessDone
	}
	return syscall.Kill(q.Pid, syscall.Signal(q.Signal))
}

// reap takes leave of every process that has ended: those that were started here, and those that their parents left.
func (s *server) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if tell := s.children[pid]; tell != nil {
			delete(s.children, pid)
			tell(status)
		}
	}
}

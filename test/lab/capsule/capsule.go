package capsule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"edgecache.dev/test/lab/cgroup"
	"edgecache.dev/test/lab/process"
)

// namespaces are those that a capsule begins with. That of control groups comes when number one is in its group.
const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// Options say how a capsule is started.
type Options struct {
	// Name is how messages call it.
	Name string
	// Command is the command line of a program that calls Serve.
	Command []string
	// Log is the file for what that program prints.
	Log string
	// Cgroup is the control group, made by the caller, that the capsule takes for the root of all groups; empty leaves
	// it where its starter is.
	Cgroup string
	// Setup is what the world inside looks like.
	Setup Setup
}

// A Capsule is a running capsule, seen from outside. Its methods may be called by several goroutines at once.
type Capsule struct {
	name   string
	init   process.Running
	socket *os.File
	out    *sender
	done   chan struct{} // closed when the inside is gone

	mu       sync.Mutex // guards what follows
	next     int
	waiting  map[int]chan answer
	programs map[int]*program
	gone     error // why nothing can be asked any more
}

var _ process.Starter = (*Capsule)(nil)

// Start starts a capsule and sets it up. It needs root.
func Start(ctx context.Context, o Options) (*Capsule, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("starting capsule %s: %w", o.Name, err)
	}
	host := process.Host{Cloneflags: namespaces, Files: []*os.File{theirs}}
	init, err := host.Start(process.Command{Name: "capsule " + o.Name, Argv: o.Command, Log: o.Log, Dir: "/"})
	// Held here as well, the socket would never say that the inside is gone.
	err = errors.Join(err, theirs.Close())
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	c := &Capsule{
		name: o.Name, init: init, socket: ours, out: newSender(ours), done: make(chan struct{}),
		waiting: map[int]chan answer{}, programs: map[int]*program{},
	}
	go c.listen()
	if err := c.begin(ctx, o); err != nil {
		tail, _ := process.Tail(o.Log, 5)
		return nil, errors.Join(fmt.Errorf("%w %s", err, tail), c.Close())
	}
	return c, nil
}

// begin puts number one into its control group, gives it the word to begin and sets its world up.
func (c *Capsule) begin(ctx context.Context, o Options) error {
	word := withoutCgroups
	if o.Cgroup != "" {
		if err := cgroup.Move(o.Cgroup, c.Pid()); err != nil {
			return err
		}
		word = withCgroups
	}
	if _, err := c.socket.Write([]byte{word}); err != nil {
		return fmt.Errorf("starting capsule %s: %w", c.name, err)
	}
	o.Setup.Cgroups = o.Cgroup != ""
	_, err := c.ask(ctx, request{Setup: &o.Setup})
	return err
}

// socketPair returns the two ends of a socket. Neither leaks into programs that happen to start meanwhile.
func socketPair() (ours, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	// Only a non-blocking file can be closed while it is read.
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return os.NewFile(uintptr(pair[0]), "capsule"), os.NewFile(uintptr(pair[1]), "capsule"), nil
}

// Pid returns the process id of number one, as the world outside sees it: /proc/<pid>/root is the capsule's root and
// /proc/<pid>/ns/net its network.
func (c *Capsule) Pid() int { return c.init.Pid() }

// Done returns a channel that is closed when the capsule has ended.
func (c *Capsule) Done() <-chan struct{} { return c.done }

// listen takes what the inside says until it says no more.
func (c *Capsule) listen() {
	why := c.hear()
	c.mu.Lock()
	c.gone = fmt.Errorf("capsule %s has ended: %w", c.name, why)
	waiting, programs := c.waiting, c.programs
	c.waiting, c.programs = nil, nil
	c.mu.Unlock()
	for _, w := range waiting {
		close(w)
	}
	// Once number one is gone, so are all others: the kernel has seen to it before it reports its end.
	_ = c.socket.Close()
	_ = c.init.Signal(syscall.SIGKILL)
	_ = c.init.Wait()
	for _, p := range programs {
		p.end(errPowerCut)
	}
	close(c.done)
}

// hear takes what the inside says until it says no more, and returns why.
func (c *Capsule) hear() error {
	for decoder := json.NewDecoder(c.socket); ; {
		var m message
		if err := decoder.Decode(&m); err != nil {
			return err
		}
		switch {
		case m.Reply != nil:
			c.replied(*m.Reply)
		case m.Ended != nil:
			c.ended(*m.Ended)
		}
	}
}

func (c *Capsule) replied(r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := answer{reply: r}
	if r.Pid != 0 && r.Error == "" {
		// Entered before whoever asked gets to know: the news of its end may be the next message.
		a.program = &program{capsule: c, pid: r.Pid, done: make(chan struct{})}
		c.programs[r.Pid] = a.program
	}
	if w := c.waiting[r.ID]; w != nil {
		delete(c.waiting, r.ID)
		w <- a
	}
}

func (c *Capsule) ended(e ended) {
	c.mu.Lock()
	p := c.programs[e.Pid]
	delete(c.programs, e.Pid)
	c.mu.Unlock()
	if p != nil {
		p.end(statusError(syscall.WaitStatus(e.Status)))
	}
}

// answer is a reply with the program that it tells of, if it does.
type answer struct {
	reply
	program *program
}

// ask sends a request and waits for the answer.
func (c *Capsule) ask(ctx context.Context, q request) (answer, error) {
	waiting, err := c.expect(&q)
	if err != nil {
		return answer{}, err
	}
	if err := c.out.send(q); err != nil {
		return answer{}, fmt.Errorf("asking capsule %s: %w", c.name, err)
	}
	select {
	case a, ok := <-waiting:
		return a, c.failure(a.reply, ok)
	case <-ctx.Done():
		return answer{}, fmt.Errorf("asking capsule %s: %w", c.name, context.Cause(ctx))
	}
}

// expect gives q its number and returns where the answer will come.
func (c *Capsule) expect(q *request) (<-chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return nil, c.gone
	}
	c.next++
	q.ID = c.next
	waiting := make(chan answer, 1)
	c.waiting[q.ID] = waiting
	return waiting, nil
}

// failure returns what a reply, or its absence, means for the request.
func (c *Capsule) failure(r reply, answered bool) error {
	switch {
	case !answered:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.gone
	case r.Error == os.ErrProcessDone.Error():
		return os.ErrProcessDone
	case r.Error != "":
		return errors.New(r.Error)
	default:
		return nil
	}
}

// Start starts a program inside. See process.Starter.
func (c *Capsule) Start(cmd process.Command) (process.Running, error) {
	env := cmd.Env
	if env == nil {
		env = process.CleanEnv()
	}
	a, err := c.ask(context.Background(), request{Start: &start{Argv: cmd.Argv, Env: env, Dir: cmd.Dir, Log: cmd.Log}})
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Name, err)
	}
	return a.program, nil
}

// Run runs a command inside to its end and returns what it printed. The program is searched for in PATH.
func (c *Capsule) Run(ctx context.Context, argv ...string) (string, error) {
	path, err := lookPath(argv[0])
	if err != nil {
		return "", err
	}
	r, err := c.ask(ctx, request{Run: &run{Argv: append([]string{path}, argv[1:]...)}})
	if err == nil {
		err = statusError(syscall.WaitStatus(r.Status))
	}
	if err != nil {
		return r.Output, fmt.Errorf("running %s in capsule %s: %w: %s", strings.Join(argv, " "), c.name, err, strings.TrimSpace(r.Output))
	}
	return r.Output, nil
}

// Close ends the capsule and everything in it and returns when all of it is gone. It may be called again.
func (c *Capsule) Close() error {
	if err := c.init.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending capsule %s: %w", c.name, err)
	}
	<-c.done
	return nil
}

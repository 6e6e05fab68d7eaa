package process

import (
	"os"
	"slices"
	"strings"
	"syscall"
)

// A Command says what to run.
type Command struct {
	// Name is how messages call the program.
	Name string
	// Argv is the program and its arguments. The program is a path: PATH is not searched.
	Argv []string
	// Env is the whole environment; nil is [CleanEnv].
	Env []string
	// Dir is the working directory; empty is the one of whoever starts it.
	Dir string
	// Log is the file that output is appended to; it is made with its folder.
	Log string
}

// A Starter brings commands to life in one place: on this host or on one of the lab's nodes.
type Starter interface {
	Start(Command) (Running, error)
}

// Running is a started command. Its methods may be called at once from several goroutines.
type Running interface {
	// Pid is the process id as the starter's surroundings see it.
	Pid() int
	// Signal sends s to the process. It fails with os.ErrProcessDone when it has ended.
	Signal(s syscall.Signal) error
	// Wait returns when the process has ended: nil after exit status 0, else what happened.
	Wait() error
}

// CleanEnv returns the environment of this process without what would lead the lab's programs outside: HTTP proxies, the
// user's own cluster, telemetry.
func CleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		key, _, _ := strings.Cut(entry, "=")
		key = strings.ToUpper(key)
		return strings.HasSuffix(key, "_PROXY") || key == "KUBECONFIG" || strings.HasPrefix(key, "OTEL_")
	})
}

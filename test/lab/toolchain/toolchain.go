package toolchain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// productModule is the module whose checkout the toolchain belongs to.
const productModule = "edgecache.dev"

// A Toolchain builds binaries of one checkout.
type Toolchain struct {
	root string // the checkout
	bin  string // where binaries go
	out  io.Writer
}

// Find returns the toolchain of the checkout that dir lies in. It reports progress to out, one line at a time; nil is
// silent.
func Find(dir string, out io.Writer) (*Toolchain, error) {
	root, err := findRoot(dir)
	if err != nil {
		return nil, err
	}
	if out == nil {
		out = io.Discard
	}
	return &Toolchain{root: root, bin: filepath.Join(root, ".cache", "bin"), out: out}, nil
}

// platform describes the compiler: the same sources give another binary when it changes.
func (t *Toolchain) platform(ctx context.Context) (string, error) {
	v, err := t.goCommand(ctx, "", "env", "GOVERSION", "GOOS", "GOARCH")
	return strings.Join(strings.Fields(v), " "), err
}

// Here returns the toolchain of the checkout that the working directory lies in, which for a Go test is the checkout
// under test.
func Here(out io.Writer) (*Toolchain, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the working directory: %w", err)
	}
	return Find(dir, out)
}

// Root returns the checkout's folder.
func (t *Toolchain) Root() string { return t.root }

// Bin returns the folder that holds the binaries.
func (t *Toolchain) Bin() string { return t.bin }

// Path returns where the named binary is once it is built.
func (t *Toolchain) Path(name string) string { return filepath.Join(t.bin, name) }

// findRoot walks up from dir to the folder whose go.mod declares the product's module.
func findRoot(dir string) (string, error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("finding the checkout: %w", err)
	}
	for d := start; ; d = filepath.Dir(d) {
		text, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && declares(string(text), productModule) {
			return d, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("finding the checkout: %w", err)
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("finding the checkout: no go.mod of module %s in %s or above it", productModule, start)
		}
	}
}

// declares reports whether the go.mod text is that of module.
func declares(gomod, module string) bool {
	for line := range strings.Lines(gomod) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "module" {
			return fields[1] == module
		}
	}
	return false
}

// goCommand runs the go command in dir below the checkout and returns its standard output.
func (t *Toolchain) goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	return t.goCommandEnv(ctx, dir, []string{"CGO_ENABLED=0"}, args...)
}

// goCommandEnv is goCommand with additional environment. GOFLAGS of the caller is dropped: the flags of a build belong
// to its stamp, so they may only come from here.
func (t *Toolchain) goCommandEnv(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(t.root, dir)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A build ends with the lab that wants it. The signal comes when the thread that forked ends, so that is held.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("running go %s: %w\n%s", strings.Join(args, " "), err, tail(stderr.String(), 40))
	}
	return stdout.String(), nil
}

// tail returns the last n lines of s: the go command prints what it downloads before what went wrong.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

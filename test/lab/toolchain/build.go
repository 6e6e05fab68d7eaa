package toolchain

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// binariesDir is the nested module, relative to the checkout. The modules of programs that need one of their own lie
// below it.
const binariesDir = "test/lab/binaries"

// stillBuilding is the time between two signs of life of one long build.
const stillBuilding = 20 * time.Second

// Lab makes sure that the named lab binaries are there and up to date. The first call in a checkout takes minutes, the
// later ones milliseconds.
func (t *Toolchain) Lab(ctx context.Context, names ...string) error {
	jobs, err := t.stale(ctx, names)
	if err != nil || len(jobs) == 0 {
		return err
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Whoever held the lock has perhaps built the very same.
	if jobs, err = t.stale(ctx, names); err != nil || len(jobs) == 0 {
		return err
	}
	return t.buildAll(ctx, jobs)
}

// A job is one lab binary that has to be built.
type job struct {
	Binary
	ldflags string
	stamp   string // content of the stamp file once it is built
}

// stale returns the jobs for the named binaries that are missing or were built from something else.
func (t *Toolchain) stale(ctx context.Context, names []string) ([]job, error) {
	found, err := lookup(names)
	if err != nil {
		return nil, err
	}
	platform, err := t.platform(ctx)
	if err != nil {
		return nil, err
	}
	var jobs []job
	for _, b := range found {
		mod, sum, err := t.module(b)
		if err != nil {
			return nil, err
		}
		flags, err := b.ldflags(mod)
		if err != nil {
			return nil, err
		}
		j := job{Binary: b, ldflags: flags, stamp: hash(hash(mod, sum, platform), b.ImportPath, flags+b.tags)}
		if !t.upToDate(j) {
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// module returns go.mod and go.sum of the module that b is built from.
func (t *Toolchain) module(b Binary) (mod, sum string, err error) {
	for name, into := range map[string]*string{"go.mod": &mod, "go.sum": &sum} {
		text, err := os.ReadFile(filepath.Join(t.root, b.dir(), name))
		if err != nil {
			return "", "", fmt.Errorf("reading the lab's module: %w", err)
		}
		*into = string(text)
	}
	return mod, sum, nil
}

// dir is the folder of the module that b is built from, relative to the checkout.
func (b Binary) dir() string { return filepath.Join(binariesDir, b.module) }

// hash digests parts so that moving a byte from one to the next changes the result.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (t *Toolchain) stampPath(name string) string { return t.Path("." + name + ".stamp") }

func (t *Toolchain) upToDate(j job) bool {
	stamp, err := os.ReadFile(t.stampPath(j.Name))
	if err != nil || string(stamp) != j.stamp {
		return false
	}
	_, err = os.Stat(t.Path(j.Name))
	return err == nil
}

func (t *Toolchain) buildAll(ctx context.Context, jobs []job) error {
	begin := time.Now()
	fmt.Fprintf(t.out, "building %d of the lab's %d binaries into %s; this happens once"+
		" (all take about fourteen minutes on two cores)\n", len(jobs), len(Binaries()), t.bin)
	for i, j := range jobs {
		if err := t.build(ctx, j, fmt.Sprintf("[%d/%d] %s", i+1, len(jobs), j.Name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.out, "lab binaries built in %s\n", since(begin))
	return nil
}

// build compiles one binary, saying that it began, that it goes on, and that it ended.
func (t *Toolchain) build(ctx context.Context, j job, label string) error {
	begin := time.Now()
	fmt.Fprintf(t.out, "%s: building\n", label)
	stop := t.every(stillBuilding, func() { fmt.Fprintf(t.out, "%s: still building (%s)\n", label, since(begin)) })
	err := t.compile(ctx, j)
	stop()
	if err != nil {
		return fmt.Errorf("building %s: %w", j.Name, err)
	}
	fmt.Fprintf(t.out, "%s: built in %s\n", label, since(begin))
	return nil
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }

// every calls f each interval until the returned function is called; that one returns after the last call of f.
func (t *Toolchain) every(interval time.Duration, f func()) (stop func()) {
	ticker, quit, done := time.NewTicker(interval), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ticker.C:
				f()
			case <-quit:
				return
			}
		}
	}()
	return func() { ticker.Stop(); close(quit); <-done }
}

func (t *Toolchain) compile(ctx context.Context, j job) error {
	temporary := t.Path("." + j.Name + ".building")
	if err := os.RemoveAll(t.stampPath(j.Name)); err != nil {
		return err
	}
	_, err := t.goCommand(ctx, j.dir(), "build", "-trimpath", "-buildvcs=false", "-ldflags", j.ldflags, "-tags", j.tags,
		"-o", temporary, j.ImportPath)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, t.Path(j.Name)); err != nil {
		return err
	}
	return os.WriteFile(t.stampPath(j.Name), []byte(j.stamp), 0o644)
}

// A Build says how a package of the checkout itself is compiled.
type Build struct {
	// Ldflags go to the linker; the product's version is stamped here.
	Ldflags string
	// Race builds with the race detector, which needs cgo. A race build has its own file name.
	Race bool
	// GOARCH is the target; empty is the host's.
	GOARCH string
}

// Product builds ./cmd/<name> of the checkout and returns the binary's path.
func (t *Toolchain) Product(ctx context.Context, name string, b Build) (string, error) {
	return t.Package(ctx, name, "./cmd/"+name, b)
}

// LabCommand builds the lab's own command line, which is also what a node's capsule runs.
func (t *Toolchain) LabCommand(ctx context.Context) (string, error) {
	return t.Package(ctx, "lab", "./test/lab", Build{})
}

// Package builds a main package of the checkout into .cache/bin and returns the binary's path. It always asks the go
// command, which knows best what is up to date.
func (t *Toolchain) Package(ctx context.Context, name, importPath string, b Build) (string, error) {
	unlock, err := t.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	file := b.fileName(name)
	// The go command looks at its former output to see whether it is up to date, so that one is kept.
	output := filepath.Join(t.bin, ".output", file)
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + b.Ldflags), "-o", output}
	if b.Race {
		args = append(args, "-race")
	}
	if _, err := t.goCommandEnv(ctx, "", b.env(), append(args, importPath)...); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	if err := t.publish(output, file); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	return t.Path(file), nil
}

// publish gives a finished output its name in .cache/bin, in place of the former one, which programs that run go on using.
func (t *Toolchain) publish(output, file string) error {
	built, err := os.Stat(output)
	if err != nil {
		return err
	}
	if published, err := os.Stat(t.Path(file)); err == nil && os.SameFile(built, published) {
		return nil
	}
	temporary := t.Path("." + file + ".building")
	if err := os.RemoveAll(temporary); err != nil {
		return err
	}
	if err := os.Link(output, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, t.Path(file))
}

func (b Build) fileName(name string) string {
	if b.GOARCH != "" {
		name += "-" + b.GOARCH
	}
	if b.Race {
		name += "-race"
	}
	return name
}

func (b Build) env() []string {
	env := []string{"CGO_ENABLED=0"}
	if b.Race {
		env = []string{"CGO_ENABLED=1"}
	}
	if b.GOARCH != "" {
		env = append(env, "GOARCH="+b.GOARCH)
	}
	return env
}

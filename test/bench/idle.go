package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/toolchain"
	"edgecache.dev/test/product"
)

const (
	// idleImages is how many images the agent holds while it is watched.
	idleImages = 10
	// idleWindow is how long it is watched.
	idleWindow = 10 * time.Minute
	// idleSettle is how long it is left alone before that, so that what a change brings
	// with it is over: its last status is written within a minute.
	idleSettle = 90 * time.Second
	// idleAnon and idleCPU are what the agent may have, idleRatio is for its memory
	// against the bare program's.
	idleAnon, idleRatio, idleCPU = 20 << 20, 1.3, 0.1
	// ticks is the kernel's unit of CPU time per second, for all programs alike.
	ticks = 100
)

func parseIdle(args []string) (window time.Duration, err error) {
	fs := flag.NewFlagSet("idle", flag.ContinueOnError)
	fs.DurationVar(&window, "window", idleWindow, "how long the agent is watched")
	return window, fs.Parse(args)
}

// idleIfAble says why where this machine cannot.
func idleIfAble(ctx context.Context, out io.Writer) ([]row, error) {
	if missing := cluster.Probe().Err(); missing != nil {
		fmt.Fprintln(out, "left out: an idle agent, on real containerd:", missing)
		return nil, nil
	}
	fmt.Fprintln(os.Stderr, "An agent that has nothing to do (a quarter of an hour)…")
	return idleAgent(ctx, idleWindow)
}

// idleAgent measures what an agent costs that has nothing to do, and a bare program beside it.
func idleAgent(ctx context.Context, window time.Duration) (rows []row, err error) {
	lab, err := cluster.Start(ctx, cluster.Options{Runtime: cluster.Containerd, Nodes: 1, PreloadPause: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	p, err := product.Run(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if err := hold(ctx, lab, idleImages); err != nil {
		return nil, err
	}
	n := lab.Nodes()[0]
	if err := runBare(ctx, lab, n); err != nil {
		return nil, err
	}
	if err := sleep(ctx, idleSettle); err != nil {
		return nil, err
	}
	return watchIdle(ctx, n, window)
}

// hold has all nodes hold a number of images.
func hold(ctx context.Context, lab *cluster.Cluster, count int) error {
	var names []string
	for i := range count {
		pushed, err := push(ctx, lab, fmt.Sprintf("bench/idle%d:v1", i), 1<<20, uint64(i))
		if err != nil {
			return err
		}
		names = append(names, pushed.Name)
	}
	client, err := versioned.NewForConfig(lab.ControlPlane().Admin())
	if err != nil {
		return fmt.Errorf("making client: %w", err)
	}
	if err := apply(ctx, lab, names); err != nil {
		return err
	}
	return untilReady(ctx, client, int32(len(lab.Nodes())))
}

func runBare(ctx context.Context, lab *cluster.Cluster, n *node.Node) error {
	bare, err := lab.Tools().Package(ctx, "bare", "./test/bench/bare", toolchain.Build{})
	if err != nil {
		return err
	}
	kubeconfig := filepath.Join(filepath.Dir(product.AgentTokenFile(n)), "kubeconfig")
	_, err = n.Run("bare", []string{bare, kubeconfig, n.Name(), "/run/containerd/containerd.sock"})
	return err
}

func watchIdle(ctx context.Context, n *node.Node, window time.Duration) ([]row, error) {
	agent, err := pidOf("edgecache-agent", product.StateDir(n))
	if err != nil {
		return nil, err
	}
	bare, err := pidOf("bare", n.Name())
	if err != nil {
		return nil, err
	}
	before, err := read(agent)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, window); err != nil {
		return nil, err
	}
	after, err := read(agent)
	if err != nil {
		return nil, err
	}
	other, err := read(bare)
	if err != nil {
		return nil, err
	}
	share := 100 * float64(after.cpu-before.cpu) / ticks / window.Seconds()
	ratio := float64(after.rss) / float64(other.rss)
	return []row{
		{"idle agent, RssAnon", mebibytes(after.anon), "what it may have: " + mebibytes(idleAnon), fmt.Sprintf("%.2f", float64(after.anon)/idleAnon)},
		{"idle agent, RSS", mebibytes(after.rss), fmt.Sprintf("a bare program: %s (may be %.1f ×)", mebibytes(other.rss), idleRatio), fmt.Sprintf("%.2f", ratio)},
		{fmt.Sprintf("idle agent, CPU over %s", window), fmt.Sprintf("%.3f %% of a core", share), fmt.Sprintf("what it may have: %.1f %%", idleCPU), fmt.Sprintf("%.2f", share/idleCPU)},
		{fmt.Sprintf("idle agent, bytes written to disk in %s", window), strconv.FormatInt(after.written-before.written, 10), "none are needed", ""},
	}, nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// use is what a process has taken so far.
type use struct {
	anon, rss int64 // bytes of memory
	cpu       int64 // in ticks
	written   int64 // bytes that went to a block device
}

// pidOf finds a program by its name and a word of its command line: in a node's machine it
// has another process id than here.
func pidOf(program, word string) (int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue // it has ended
		}
		argv := strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
		if filepath.Base(argv[0]) == program && slices.Contains(argv, word) {
			return strconv.Atoi(filepath.Base(dir))
		}
	}
	return 0, fmt.Errorf("no process %s with %q is running", program, word)
}

func read(pid int) (u use, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := figures(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	disk, err := figures(filepath.Join(dir, "io"))
	if err != nil {
		return u, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("reading CPU time: %w", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on, proc(5)
	for _, f := range fields[11:13] {                                         // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("reading CPU time: %w", err)
		}
		u.cpu += n
	}
	u.anon, u.rss, u.written = status["RssAnon"]<<10, status["VmRSS"]<<10, disk["write_bytes"]
	return u, nil
}

// figures reads the lines of a file that are a name and a number.
func figures(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a process's figures: %w", err)
	}
	found := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				found[name] = n
			}
		}
	}
	return found, nil
}

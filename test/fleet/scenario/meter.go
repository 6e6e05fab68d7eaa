package scenario

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// quietFor is how long nobody must have written for the world to be at rest: longer than
// agents and controller gather changes.
const quietFor = 2500 * time.Millisecond

// writes counts requests by "VERB resource/subresource".
type writes map[string]int

func (w writes) sum() (n int) {
	for _, c := range w {
		n += c
	}
	return n
}

// since gives what came in addition to a reading before.
func (w writes) since(before writes) writes {
	out := writes{}
	for k, n := range w {
		if n > before[k] {
			out[k] = n - before[k]
		}
	}
	return out
}

// reading is what the API server has counted since it was started.
type reading struct {
	writes  writes // of edgecache.dev, and events
	all     writes // of anything but Leases
	refused int    // of the writes, those that were answered with an error: conflicts, mostly
}

// read asks the API server for its counts.
func (w *World) read(ctx context.Context) (reading, error) {
	r := reading{writes: writes{}, all: writes{}}
	text, err := w.edge.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return r, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if labels, ok := strings.CutPrefix(line, "apiserver_request_total{"); ok {
			if err := r.take(labels); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

func (r *reading) take(line string) error {
	resource, verb := label(line, "resource"), label(line, "verb")
	if resource == "leases" || !slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}, verb) {
		return nil
	}
	var n int
	if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &n); err != nil {
		return fmt.Errorf("reading the API server's metrics: %w", err)
	}
	what := verb + " " + resource
	if sub := label(line, "subresource"); sub != "" {
		what += "/" + sub
	}
	r.all[what] += n
	if label(line, "group") != "edgecache.dev" && resource != "events" {
		return nil
	}
	r.writes[what] += n
	if !strings.HasPrefix(label(line, "code"), "2") {
		r.refused += n
	}
	return nil
}

func label(line, name string) string {
	_, after, _ := strings.Cut(line, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// quiet waits until nobody has written for a while.
func (w *World) quiet(ctx context.Context) error {
	last, since := reading{}, time.Now()
	return w.until(ctx, "nobody writes", func(ctx context.Context) error {
		now, err := w.read(ctx)
		if err != nil {
			return err
		}
		if !maps.Equal(now.writes, last.writes) {
			last, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < quietFor {
			return fmt.Errorf("written to %s ago: %v", quiet, last.writes)
		}
		return nil
	})
}

// use is what a process has used.
type use struct {
	cpu  time.Duration
	peak int64 // bytes of resident memory
}

// used gives what all controllers have used since the world was made.
func (w *World) usedByControllers() use {
	now, err := useOf(w.controller.Pid())
	if err != nil {
		return w.used // it is gone, and was counted
	}
	return use{cpu: w.used.cpu + now.cpu, peak: max(w.used.peak, now.peak)}
}

// useOf reads what a process has used until now.
func useOf(pid int) (u use, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, fmt.Errorf("reading what process %d uses: %w", pid, err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		return u, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	u.peak = kilobytes << 10
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("reading what process %d uses: %w", pid, err)
	}
	// After the name in parentheses; user and system time are the 12th and 13th field from there.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("reading the time of process %d: %w", pid, err)
		}
		u.cpu += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return u, nil
}

// ticksPerSecond is USER_HZ, the same on all Linux machines that matter.
const ticksPerSecond = 100

// kill ends the controller with SIGKILL and starts it again.
func (w *World) kill() error {
	w.used = w.usedByControllers()
	if err := w.controller.Kill(); err != nil {
		return err
	}
	return w.controller.Restart()
}

package cgroup

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// A hierarchy is a mounted tree of control groups.
type hierarchy struct {
	// point is where it is mounted.
	point string
	// unified tells that it is the one of version 2.
	unified bool
	// options are the superblock's: the controllers, for version 1.
	options []string
}

// Hierarchies returns where the machine's control group hierarchies are mounted.
func Hierarchies() ([]string, error) {
	found, err := hierarchies()
	var points []string
	for _, h := range found {
		points = append(points, h.point)
	}
	return points, err
}

func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("finding control groups: %w", err)
	}
	defer func() { _ = f.Close() }()
	var found []hierarchy
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		h, ok := parse(lines.Text())
		same := func(other hierarchy) bool { return other.point == h.point }
		if ok && !slices.ContainsFunc(found, same) {
			found = append(found, h)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("finding control groups: %w", err)
	}
	return found, nil
}

// parse returns the hierarchy that a line of mountinfo tells of, if it does.
func parse(line string) (hierarchy, bool) {
	mount, source, found := strings.Cut(line, " - ")
	left, right := strings.Fields(mount), strings.Fields(source)
	if !found || len(left) < 5 || len(right) < 3 {
		return hierarchy{}, false
	}
	h := hierarchy{point: left[4], unified: right[0] == "cgroup2", options: strings.Split(right[2], ",")}
	return h, h.unified || right[0] == "cgroup"
}

// Unified tells whether the machine has only the unified hierarchy (v2), which container runtimes recognise by what is
// mounted at /sys/fs/cgroup.
func Unified() bool {
	var stat syscall.Statfs_t
	const cgroup2Magic = 0x63677270
	return syscall.Statfs("/sys/fs/cgroup", &stat) == nil && stat.Type == cgroup2Magic
}

// controllers returns what a version 1 hierarchy is made of, as mount wants to be told: its controllers or its name.
func (h hierarchy) controllers(known []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(h.options), func(o string) bool {
		return !slices.Contains(known, o) && !strings.HasPrefix(o, "name=")
	}), ",")
}

// knownControllers returns the names of the kernel's controllers.
func knownControllers() ([]string, error) {
	text, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return nil, fmt.Errorf("listing controllers: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0][0] != '#' {
			names = append(names, fields[0])
		}
	}
	return names, nil
}

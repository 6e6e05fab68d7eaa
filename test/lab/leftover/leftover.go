package leftover

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"edgecache.dev/test/lab/cgroup"
)

// Of lists what is there of a lab: in words, one entry each. dir is the lab's folder, lab its identity.
func Of(dir, lab string) ([]string, error) {
	found, err := processes(dir)
	if err != nil {
		return nil, err
	}
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing network devices: %w", err)
	}
	for _, device := range devices {
		if strings.Contains(device.Name, lab) {
			found = append(found, "network device "+device.Name)
		}
	}
	points, err := cgroup.Hierarchies()
	if err != nil {
		return nil, err
	}
	groups := []string{dir}
	for _, point := range points {
		groups = append(groups, filepath.Join(point, "edgecache-lab-"+lab))
	}
	for _, path := range groups {
		if _, err := os.Stat(path); err == nil {
			found = append(found, "folder "+path)
		}
	}
	return found, nil
}

// processes lists the processes that have to do with dir: by their command line or by a mount that they see.
func processes(dir string) ([]string, error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, process := range all {
		// Unreadable is what has just ended.
		command, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		mounts, _ := os.ReadFile(filepath.Join(process, "mountinfo"))
		words := strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, dir) {
				found = append(found, fmt.Sprintf("mount seen by %s (%s): %s", process, words, strings.TrimSpace(line)))
				break
			}
		}
		if strings.Contains(words, dir) {
			found = append(found, fmt.Sprintf("process %s: %s", process, words))
		}
	}
	return found, nil
}

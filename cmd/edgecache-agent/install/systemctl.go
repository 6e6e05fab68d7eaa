package install

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// unitName is that of Unit.
const unitName = "edgecache-agent.service"

// Start has systemd take the unit up: enabled, and started anew where a file changed. On
// another machine's files, and where systemd does not run, it says what is left to do.
func (m Machine) Start(ctx context.Context, changed bool) error {
	last := []string{"start", unitName}
	if changed {
		last[0] = "restart"
	}
	return m.systemctl(ctx, []string{"daemon-reload"}, []string{"enable", unitName}, last)
}

// Stop has systemd end the unit and not start it again, before its file goes.
func (m Machine) Stop(ctx context.Context) error {
	return m.systemctl(ctx, []string{"disable", "--now", unitName})
}

// Forget has systemd see that the unit's file is gone.
func (m Machine) Forget(ctx context.Context) error {
	return m.systemctl(ctx, []string{"daemon-reload"})
}

func (m Machine) systemctl(ctx context.Context, commands ...[]string) error {
	for _, c := range commands {
		line := "systemctl " + strings.Join(c, " ")
		if m.Dry || filepath.Clean(m.Root) != "/" || !systemdRuns() {
			m.Say("to do where systemd runs: %s", line)
			continue
		}
		out, err := exec.CommandContext(ctx, "systemctl", c...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
		}
		m.Say("%s", line)
	}
	return nil
}

// systemdRuns is sd_booted(3).
func systemdRuns() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

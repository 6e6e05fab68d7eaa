package leftover

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAProcessAndAFolderAreSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sleep := exec.CommandContext(t.Context(), "/bin/sh", "-c", "sleep 600; : "+dir)
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	found, err := Of(dir, "nosuch")
	if err != nil || len(found) != 2 || !strings.HasPrefix(found[0], "process ") || found[1] != "folder "+dir {
		t.Errorf("found %v, %v", found, err)
	}
	if err := sleep.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sleep.Wait()
	found, err = Of(filepath.Join(dir, "removed"), "nosuch")
	if err != nil || len(found) != 0 {
		t.Errorf("found %v, %v; want nothing", found, err)
	}
}

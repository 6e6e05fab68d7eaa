package install

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sigs.k8s.io/yaml"
)

// head begins the file with the settings; the checksum of what follows is behind it.
const head = "# Settings of edgecache-agent (edgecache-agent run --help), written by edgecache-agent install. Once\n" +
	"# they are edited it leaves them as they are, --force aside. What it wrote: sha256 "

// Settings gives the agent's configuration file with the values of the keys that are set.
func Settings(values map[string]any) (File, error) {
	body := []byte{}
	if len(values) > 0 {
		var err error
		if body, err = yaml.Marshal(values); err != nil {
			return File{}, fmt.Errorf("writing settings: %w", err)
		}
	}
	return File{Path: Config, Mode: 0o600, Data: fmt.Appendf(nil, "%s%x\n%s", head, sha256.Sum256(body), body)}, nil
}

// Kept says whether there are settings on the machine, and whether somebody edited them or
// wrote them by hand.
func (m Machine) Kept() (there, edited bool, err error) {
	text, err := os.ReadFile(m.path(Config))
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("reading the settings that are there: %w", err)
	}
	rest, ours := bytes.CutPrefix(text, []byte(head))
	sum, body, _ := bytes.Cut(rest, []byte("\n"))
	return true, !ours || string(sum) != fmt.Sprintf("%x", sha256.Sum256(body)), nil
}

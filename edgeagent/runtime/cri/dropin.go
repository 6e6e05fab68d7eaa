package cri

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"edgecache.dev/api/imageref"
)

const (
	// dropInName comes late in the folder: the last file that sets pinned_images counts.
	dropInName = "99-edgecache-pins.conf"
	dropInTemp = ".99-edgecache-pins.tmp"
	// markLine begins the lines of the file that are for the driver itself.
	markLine = "# image "

	markPinned  = "pinned"
	markManaged = "managed"
)

// mark is what the driver remembers of a name, which CRI has no place for.
type mark struct{ pinned, managed bool }

// marks are those of all names.
type marks map[imageref.Reference]mark

// pinned gives the names that are to be pinned, sorted.
func (m marks) pinned() []imageref.Reference {
	var out []imageref.Reference
	for name, k := range m {
		if k.pinned {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, imageref.Compare)
	return out
}

// dropIn is the folder of CRI-O's configuration that has our file in it.
type dropIn struct{ dir string }

func (f dropIn) path() string { return filepath.Join(f.dir, dropInName) }

// read gives the marks of the file. No file is none, and lines of somebody else are skipped.
func (f dropIn) read() (marks, error) {
	if f.dir == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the pinned images: %w", err)
	}
	return parseMarks(string(text)), nil
}

func parseMarks(text string) marks {
	m := marks{}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, markLine)
		words := strings.Fields(rest)
		if !ok || len(words) == 0 {
			continue
		}
		if name, err := imageref.Parse(words[0]); err == nil {
			m[name] = mark{pinned: slices.Contains(words[1:], markPinned), managed: slices.Contains(words[1:], markManaged)}
		}
	}
	return m
}

// render gives the file. What others have CRI-O pin is repeated: the setting is one list,
// and the last file replaces it.
func (m marks) render(others []string) string {
	var b strings.Builder
	b.WriteString("# Written by edgecache-agent: images that the kubelet's garbage collection shall spare.\n" +
		"# Pin further ones in a file that sorts before this one: the agent takes them over when it next writes.\n")
	for _, name := range slices.SortedFunc(maps.Keys(m), imageref.Compare) {
		b.WriteString(markLine + name.String())
		if m[name].pinned {
			b.WriteString(" " + markPinned)
		}
		if m[name].managed {
			b.WriteString(" " + markManaged)
		}
		b.WriteByte('\n')
	}
	pinned := m.pinned()
	if len(pinned) == 0 {
		return b.String()
	}
	b.WriteString("[crio.image]\npinned_images = [\n")
	for _, image := range others {
		fmt.Fprintf(&b, "  %q,\n", image)
	}
	for _, name := range pinned {
		fmt.Fprintf(&b, "  %q,\n", name.String())
	}
	b.WriteString("]\n")
	return b.String()
}

// write replaces the file as a whole, or removes it where there is nothing to say. CRI-O
// reads every file of the folder, whatever its name, so the new one is written at once and
// synced before it takes the other's place.
func (f dropIn) write(m marks) error {
	if len(m) == 0 {
		if err := os.Remove(f.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the pinned images: %w", err)
		}
		return nil
	}
	others, err := f.others()
	if err != nil {
		return fmt.Errorf("reading what CRI-O pins: %w", err)
	}
	temp := filepath.Join(f.dir, dropInTemp)
	if err := writeSynced(temp, m.render(others)); err != nil {
		return fmt.Errorf("writing the pinned images: %w", errors.Join(err, os.RemoveAll(temp)))
	}
	if err := os.Rename(temp, f.path()); err != nil {
		return fmt.Errorf("writing the pinned images: %w", errors.Join(err, os.RemoveAll(temp)))
	}
	return nil
}

func writeSynced(path, text string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// others gives the pinned images of CRI-O's other configuration: of the last file before
// ours that has any.
func (f dropIn) others() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	paths := []string{filepath.Join(filepath.Dir(f.dir), "crio.conf")}
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && name != dropInTemp && name < dropInName {
			paths = append(paths, filepath.Join(f.dir, name))
		}
	}
	var pinned []string
	for _, path := range paths {
		found, err := pinnedIn(path)
		if err != nil {
			return nil, err
		}
		if found != nil {
			pinned = *found
		}
	}
	return pinned, nil
}

// pinnedIn gives the setting pinned_images of a file, nil where it has none.
func pinnedIn(path string) (*[]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file says nothing
	}
	if err != nil {
		return nil, err
	}
	var config struct {
		Crio struct {
			Image struct {
				Pinned *[]string `toml:"pinned_images"`
			} `toml:"image"`
		} `toml:"crio"`
	}
	if err := toml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return config.Crio.Image.Pinned, nil
}

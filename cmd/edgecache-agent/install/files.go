package install

import (
	"bytes"
	_ "embed" // the templates
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// A File is to stand on the machine.
type File struct {
	Path string
	Mode fs.FileMode
	Data []byte
}

//go:embed unit.service
var unitText string

//go:embed pod.yaml
var podText string

// Systemd gives the program, copied from where it is now, and the unit, which lets it write to
// its state's directory and some others.
func Systemd(binary, stateDir string, others []string) ([]File, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("reading the program to install: %w", err)
	}
	unit, err := render(unitText, map[string]string{
		"Program": Program, "Config": Config, "Writes": writable(append([]string{stateDir}, others...)), "StateDirectory": stateDirectory(stateDir),
	})
	return []File{{Path: Program, Mode: 0o755, Data: program}, {Path: Unit, Mode: 0o644, Data: unit}}, err
}

// systemdPath writes what systemd takes for specifiers and quotes so that it does not.
var systemdPath = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`)

// writable gives ReadWritePaths: directories that need not be there.
func writable(dirs []string) string {
	var quoted []string
	for _, d := range dirs {
		quoted = append(quoted, `"-`+systemdPath.Replace(d)+`"`)
	}
	return strings.Join(quoted, " ")
}

// stateDirectory gives what systemd is to make anew below /var/lib if it is gone.
func stateDirectory(dir string) string {
	rest, ok := strings.CutPrefix(dir, "/var/lib/")
	if !ok {
		return ""
	}
	return `"` + systemdPath.Replace(rest) + `"`
}

// Pod says what a static pod is made of.
type Pod struct {
	// Image is the agent's.
	Image string
	// Endpoint is the runtime's socket, "" where the settings have it.
	Endpoint string
	// NodeName says that the pod is to take the node's name from the kubelet.
	NodeName bool
	// StateDir is the directory with the agent's socket.
	StateDir string
	// Writes are directories that the agent writes to, Reads those that it only reads, Files
	// single ones that it reads.
	Writes, Reads, Files []string
}

// Add has the pod read those paths that are there on a machine.
func (p *Pod) Add(m Machine, paths ...string) {
	for _, path := range m.Present(paths...) {
		if info, err := os.Stat(m.path(path)); err == nil && info.IsDir() {
			p.Reads = append(p.Reads, path)
			continue
		}
		p.Files = append(p.Files, path)
	}
}

// mount is something of the node in the pod.
type mount struct {
	Name, Path, Type string
	ReadOnly         bool
}

// StaticPod gives the manifest.
func StaticPod(path string, p Pod) (File, error) {
	var mounts []mount
	add := func(path, kind string, readOnly bool) {
		mounts = append(mounts, mount{Name: fmt.Sprintf("host-%d", len(mounts)), Path: path, Type: kind, ReadOnly: readOnly})
	}
	writes := outermost(p.Writes)
	for _, dir := range writes {
		add(dir, "DirectoryOrCreate", false)
	}
	reads := outermost(p.Reads)
	for _, dir := range reads {
		if !slices.Contains(writes, dir) {
			add(dir, "Directory", true)
		}
	}
	for _, file := range slices.Compact(slices.Sorted(slices.Values(p.Files))) {
		if !within(file, slices.Concat(writes, reads)) {
			add(file, "File", true)
		}
	}
	data, err := render(podText, map[string]any{"Pod": p, "Config": Config, "Program": Program, "Mounts": mounts})
	return File{Path: path, Mode: 0o600, Data: data}, err
}

// outermost leaves out directories that are within others, and those that stand twice.
func outermost(dirs []string) (out []string) {
	for _, d := range slices.Sorted(slices.Values(dirs)) {
		if d = filepath.Clean(d); !slices.Contains(out, d) && !within(d, out) {
			out = append(out, d)
		}
	}
	return out
}

// within says whether a path is below one of some directories.
func within(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(path, strings.TrimSuffix(d, "/")+"/") })
}

func render(text string, values any) ([]byte, error) {
	t, err := template.New("").Funcs(template.FuncMap{"json": asJSON}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading template: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, values); err != nil {
		return nil, fmt.Errorf("filling template: %w", err)
	}
	return b.Bytes(), nil
}

// asJSON writes a value so that YAML reads the same.
func asJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

package extract

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Stdin stands for standard input among paths.
const Stdin = "-"

// endings are those of the files that are read of a folder.
var endings = []string{".yaml", ".yml", ".json"}

// Read adds what a path names: a file, all manifests in a folder and the folders in it,
// or, with "-", what stdin gives. Errors are kept in in.Errors.
func (in *Inputs) Read(path string, stdin io.Reader) {
	if path == Stdin {
		in.readFrom(Stdin, stdin)
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		in.fail(path, 0, plain(err))
	case info.IsDir():
		in.readFolder(path)
	default:
		in.readFile(path)
	}
}

// readFolder reads in the order of names. Links to folders are not followed: they may
// lead in circles.
func (in *Inputs) readFolder(root string) {
	before := in.Objects + len(in.Errors)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			in.fail(path, 0, plain(err))
			return nil
		case path != root && strings.HasPrefix(entry.Name(), "."):
			return skip(entry)
		case entry.IsDir():
			return in.enter(path)
		case isKustomization(entry.Name()):
			in.note(path, "is not expanded, and images that it rewrites are not known here: check what is applied, with kustomize build "+
				filepath.Dir(path)+" | registrycheck -f -")
		case slices.Contains(endings, filepath.Ext(path)):
			in.readFile(path)
		}
		return nil
	})
	if err != nil {
		in.fail(root, 0, err)
	}
	if in.Objects+len(in.Errors) == before {
		in.fail(root, 0, errors.New("has no manifest in it: files that end in .yaml, .yml or .json are read"))
	}
}

// enter refuses charts: their templates are no manifests yet.
func (in *Inputs) enter(folder string) error {
	if _, err := os.Stat(filepath.Join(folder, "Chart.yaml")); err != nil {
		return nil //nolint:nilerr // no chart, then
	}
	in.fail(folder, 0, errors.New("is a Helm chart, whose templates are not manifests yet: helm template "+folder+" | registrycheck -f -"))
	return fs.SkipDir
}

func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func isKustomization(name string) bool {
	return name == "kustomization.yaml" || name == "kustomization.yml" || name == "Kustomization"
}

// readFile reads files, and pipes such as those of <(helm template …).
func (in *Inputs) readFile(path string) {
	f, err := os.Open(path)
	if err != nil {
		in.fail(path, 0, plain(err))
		return
	}
	defer func() { _ = f.Close() }()
	in.readFrom(path, f)
}

func (in *Inputs) readFrom(file string, r io.Reader) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	switch {
	case err != nil:
		in.fail(file, 0, plain(err))
	case len(data) > MaxFile:
		in.fail(file, 0, fmt.Errorf("is longer than %d MiB: split it", MaxFile>>20))
	default:
		in.Parse(file, data)
	}
}

func (in *Inputs) fail(file string, line int, err error) {
	in.Errors = append(in.Errors, &InputError{File: file, Line: line, Err: err})
}

func (in *Inputs) note(file, message string) {
	in.Notes = append(in.Notes, Note{Source: Source{File: file}, Message: message})
}

// plain leaves out the operation and the path, which the message begins with.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"

	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/extract"
	"edgecache.dev/registrycheck/lock"
)

// Report is what is written.
type Report struct {
	Images []Image `json:"images"`
	// Errors are inputs that could not be read.
	Errors []InputError `json:"errors,omitempty"`
	// Notes are about what was not checked, and why.
	Notes []string `json:"notes,omitempty"`
	// Drift is in what the images differ from a lock; nil where none was given.
	Drift []lock.Drift `json:"drift,omitempty"`
	// Downloads is what each kind of node fetches, where an older lock was given.
	Downloads []lock.Download       `json:"downloads,omitempty"`
	Summary   registrycheck.Summary `json:"summary"`
}

// Image is one image with the places that name it.
type Image struct {
	registrycheck.Result
	// Sources are all places, the first of which is Result.Source.
	Sources []extract.Source `json:"sources,omitempty"`
}

// InputError says what could not be read, and where.
type InputError struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
}

// String begins with file and line.
func (e InputError) String() string {
	if e.File == "" {
		return e.Message
	}
	return (&extract.InputError{File: e.File, Line: e.Line, Err: errors.New(e.Message)}).Error()
}

// Form is a form of output.
type Form string

// Forms.
const (
	Table    Form = "table"
	JSON     Form = "json"
	YAML     Form = "yaml"
	JUnit    Form = "junit"
	SARIF    Form = "sarif"
	GitHub   Form = "github"
	Markdown Form = "markdown"
)

var writers = map[Form]func(io.Writer, *Report) error{
	Table: writeTable, JSON: writeJSON, YAML: writeYAML, JUnit: writeJUnit, SARIF: writeSARIF, GitHub: writeGitHub, Markdown: writeMarkdown,
}

// Forms lists all, in the order in which they are documented.
func Forms() []string {
	return []string{string(Table), string(JSON), string(YAML), string(JUnit), string(SARIF), string(GitHub), string(Markdown)}
}

// ParseForm gives the form of that name.
func ParseForm(name string) (Form, error) {
	if !slices.Contains(Forms(), name) {
		return "", fmt.Errorf("output %q is not known: use one of %s", name, strings.Join(Forms(), ", "))
	}
	return Form(name), nil
}

// Write writes the report.
func Write(w io.Writer, form Form, r *Report) error {
	if err := writers[form](w, r); err != nil {
		return fmt.Errorf("writing %s: %w", form, err)
	}
	return nil
}

func writeJSON(w io.Writer, r *Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r.complete())
}

func writeYAML(w io.Writer, r *Report) error {
	b, err := yaml.Marshal(r.complete())
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// complete has lists where there is nothing, so that programs need not ask.
func (r *Report) complete() *Report {
	out := *r
	out.Images = slices.Clone(r.Images)
	if out.Images == nil {
		out.Images = []Image{}
	}
	for i := range out.Images {
		if out.Images[i].Platforms == nil {
			out.Images[i].Platforms = []registrycheck.Platform{}
		}
	}
	return &out
}

// clean leaves out what could act on a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return -1
		}
		return r
	}, s)
}

// size gives bytes as "12.3 MB"; "" for none.
func size(n int64) string {
	const kilo = 1000
	if n <= 0 {
		return ""
	}
	units := []string{"B", "kB", "MB", "GB", "TB"}
	x, u := float64(n), 0
	for x >= kilo && u < len(units)-1 {
		x, u = x/kilo, u+1
	}
	if u == 0 || x >= 100 {
		return fmt.Sprintf("%.0f %s", x, units[u])
	}
	return fmt.Sprintf("%.1f %s", x, units[u])
}

// count gives "1 image", "2 images".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// summary gives all counts in one line.
func summary(r *Report) string {
	s := r.Summary
	return fmt.Sprintf("%s: %d pullable, %d not pullable, %d inconclusive", count(s.Images, "image"), s.Pullable, s.NotPullable, s.Inconclusive)
}

// trouble is one thing that is wrong with an image: with all of it, or with a platform.
type trouble struct {
	platform string
	registrycheck.Finding
}

// troubles gives what is wrong: of an image whose platforms differ, each that fails; in one
// line those that fail alike.
func (i *Image) troubles() []trouble {
	if i.Verdict == registrycheck.Pullable {
		return nil
	}
	var all []trouble
	for _, p := range i.Platforms {
		if p.Verdict == registrycheck.Pullable {
			continue
		}
		same := slices.IndexFunc(all, func(t trouble) bool { return t.Finding == p.Finding })
		if same >= 0 {
			all[same].platform += ", " + p.Platform
			continue
		}
		all = append(all, trouble{p.Platform, p.Finding})
	}
	if len(all) == 0 || len(all) == 1 && !strings.Contains(all[0].platform, ",") && len(i.Platforms) == 1 && all[0].Finding == i.Finding {
		platform := ""
		if len(all) == 1 {
			platform = all[0].platform
		}
		return []trouble{{platform, i.Finding}}
	}
	return all
}

// text gives message, what to do and the URL, in one line.
func (t trouble) text() string {
	text := t.Explain()
	if t.platform != "" {
		text = t.platform + ": " + text
	}
	if t.URL != "" && !strings.Contains(text, t.URL) {
		text += " (" + t.URL + ")"
	}
	return clean(text)
}

// places gives the sources of an image as text.
func (i *Image) places() []string {
	var all []string
	for _, s := range i.Sources {
		text := s.String()
		if s.Template != "" {
			text += " (" + s.Template + ")"
		}
		all = append(all, clean(text))
	}
	if len(all) == 0 && i.Source != "" {
		all = append(all, clean(i.Source))
	}
	return all
}

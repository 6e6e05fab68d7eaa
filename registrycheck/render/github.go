package render

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/extract"
)

// levels of annotations.
const (
	levelError   = "error"
	levelWarning = "warning"
	levelNotice  = "notice"
)

// writeGitHub writes workflow commands, which GitHub shows beside the lines that name the
// images. https://docs.github.com/actions/reference/workflow-commands-for-github-actions
func writeGitHub(w io.Writer, r *Report) error {
	var b strings.Builder
	for _, i := range r.Images {
		for _, t := range i.troubles() {
			title := string(t.Reason) + ": " + i.Reference
			files := inFiles(i.Sources)
			for _, s := range files {
				annotate(&b, levelOf(t.Verdict), s.File, s.Line, title, t.text())
			}
			if len(files) == 0 {
				annotate(&b, levelOf(t.Verdict), "", 0, title, t.text()+" (named in "+strings.Join(i.places(), ", ")+")")
			}
		}
	}
	for _, d := range r.Drift {
		annotate(&b, levelError, "", 0, "Differs from the lock", d.String())
	}
	for _, e := range r.Errors {
		annotate(&b, levelError, e.File, e.Line, "Not read", e.Message)
	}
	for _, n := range r.Notes {
		annotate(&b, levelNotice, "", 0, "Not checked", n)
	}
	fmt.Fprintln(&b, summary(r))
	_, err := io.WriteString(w, b.String())
	return err
}

// inFiles leaves out what is in no file that a viewer could show.
func inFiles(sources []extract.Source) []extract.Source {
	return slices.DeleteFunc(slices.Clone(sources), func(s extract.Source) bool { return s.File == "" || s.File == extract.Stdin })
}

// anywhere gives one source without a place where there is none.
func anywhere(sources []extract.Source) []extract.Source {
	if len(sources) == 0 {
		return []extract.Source{{}}
	}
	return sources
}

func levelOf(v registrycheck.Verdict) string {
	if v == registrycheck.Inconclusive {
		return levelWarning
	}
	return levelError
}

func annotate(b *strings.Builder, level, file string, line int, title, message string) {
	properties := []string{"title=" + property(title)}
	if file != "" {
		properties = append(properties, "file="+property(file))
		if line > 0 {
			properties = append(properties, fmt.Sprintf("line=%d", line))
		}
	}
	fmt.Fprintf(b, "::%s %s::%s\n", level, strings.Join(properties, ","), data(message))
}

// data and property escape as the runner's own toolkit does.
func data(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(clean(s))
}

func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data(s))
}

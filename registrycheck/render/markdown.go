package render

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"strings"

	"edgecache.dev/registrycheck"
)

var signs = map[registrycheck.Verdict]string{
	registrycheck.Pullable: "✅ Pullable", registrycheck.NotPullable: "❌ NotPullable", registrycheck.Inconclusive: "⚠️ Inconclusive",
}

// writeMarkdown writes what fits into a comment of a merge request or the summary of a job.
func writeMarkdown(w io.Writer, r *Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### registrycheck: %s\n", summary(r))
	if len(r.Images) > 0 {
		b.WriteString("\n| Verdict | Image | Platforms | Size | What is wrong | Named in |\n|---|---|---|---|---|---|\n")
	}
	for _, i := range sorted(r.Images) {
		var wrong []string
		for _, t := range i.troubles() {
			wrong = append(wrong, "**"+string(t.Reason)+"** "+cell(t.text()))
		}
		var places []string
		for _, p := range i.places() {
			places = append(places, cell(p))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", signs[i.Verdict], cell(i.Reference), cell(platforms(&i)), size(i.Size),
			strings.Join(wrong, "<br>"), strings.Join(places, "<br>"))
	}
	list(&b, "Differs from the lock", r.Drift)
	if len(r.Downloads) > 0 {
		b.WriteString("\n| Each node of | downloads | images | layers |\n|---|---|---|---|\n")
	}
	for _, d := range r.Downloads {
		fmt.Fprintf(&b, "| %s | %s | %d | %d |\n", cell(d.Group), cmp.Or(size(d.Bytes), "nothing"), d.Images, d.Layers)
	}
	list(&b, "Not checked", r.Notes)
	list(&b, "Not read", r.Errors)
	_, err := io.WriteString(w, b.String())
	return err
}

// cell escapes what would end a cell or begin markup.
func cell(s string) string {
	var b strings.Builder
	for _, r := range html.EscapeString(clean(s)) {
		if strings.ContainsRune("\\`*_[]|~@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func list[T any](b *strings.Builder, head string, lines []T) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n**%s**\n\n", head)
	for _, line := range lines {
		fmt.Fprintf(b, "- %s\n", cell(fmt.Sprint(line)))
	}
}

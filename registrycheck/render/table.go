package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"edgecache.dev/registrycheck"
	"edgecache.dev/registrycheck/lock"
)

// maxPlaces is how many places of one image a table names.
const maxPlaces = 3

// writeTable writes what is the matter after all images: there it is seen.
func writeTable(w io.Writer, r *Report) error {
	var b strings.Builder
	if len(r.Images) > 0 {
		table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
		fmt.Fprintln(table, "VERDICT\tIMAGE\tPLATFORMS\tSIZE\tREASON")
		for _, i := range sorted(r.Images) {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", i.Verdict, clean(i.Reference), platforms(&i), size(i.Size), reason(&i))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	for _, i := range sorted(r.Images) {
		details(&b, &i)
	}
	section(&b, "\nDiffers from the lock:\n", r.Drift)
	downloads(&b, r.Downloads)
	section(&b, "\nNot checked:\n", r.Notes)
	section(&b, "\nNot read:\n", r.Errors)
	fmt.Fprintf(&b, "\n%s\n", summary(r))
	_, err := io.WriteString(w, strings.TrimLeft(trimLines(b.String()), "\n"))
	return err
}

// trimLines takes the padding of the last column away.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// sorted puts what is wrong first, and keeps the order otherwise.
func sorted(images []Image) []Image {
	rank := map[registrycheck.Verdict]int{registrycheck.NotPullable: 0, registrycheck.Inconclusive: 1, registrycheck.Pullable: 2}
	out := slices.Clone(images)
	slices.SortStableFunc(out, func(a, b Image) int { return cmp.Compare(rank[a.Verdict], rank[b.Verdict]) })
	return out
}

// platforms names up to three.
func platforms(i *Image) string {
	const most = 3
	var all []string
	for _, p := range i.Platforms {
		all = append(all, clean(p.Platform))
	}
	if len(all) > most {
		return strings.Join(all[:most-1], ",") + fmt.Sprintf(" and %d more", len(all)-most+1)
	}
	return strings.Join(all, ",")
}

func reason(i *Image) string {
	if i.Verdict == registrycheck.Pullable {
		return ""
	}
	return string(i.Reason)
}

// details says what is wrong with an image, and where it is named.
func details(b *strings.Builder, i *Image) {
	all := i.troubles()
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", clean(i.Reference))
	for _, t := range all {
		fmt.Fprintf(b, "  %s\n", t.text())
	}
	places := i.places()
	for _, p := range places[:min(len(places), maxPlaces)] {
		fmt.Fprintf(b, "  named in %s\n", p)
	}
	if more := len(places) - maxPlaces; more > 0 {
		fmt.Fprintf(b, "  and %s\n", count(more, "more place"))
	}
}

func section[T any](b *strings.Builder, head string, lines []T) {
	if len(lines) == 0 {
		return
	}
	b.WriteString(head)
	for _, line := range lines {
		fmt.Fprintf(b, "  %s\n", clean(fmt.Sprint(line)))
	}
}

func downloads(b *strings.Builder, all []lock.Download) {
	if len(all) == 0 {
		return
	}
	b.WriteString("\nEach node downloads:\n")
	table := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	for _, d := range all {
		fmt.Fprintf(table, "  %s\t%s\t%s, %s\n", clean(d.Group), cmp.Or(size(d.Bytes), "nothing"), count(d.Images, "image"), count(d.Layers, "layer"))
	}
	_ = table.Flush() // writing to memory does not fail
}

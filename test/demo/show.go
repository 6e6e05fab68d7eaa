package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// asTable asks the API server for the table that kubectl get prints.
const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

// tables prints what kubectl get imagecache,nodeimagecache prints.
func (d *demo) tables(ctx context.Context) error {
	for _, path := range []string{"namespaces/default/imagecaches", "namespaces/" + v1alpha1.SystemNamespace + "/nodeimagecaches"} {
		raw, err := d.client.RESTClient().Get().AbsPath("/apis/edgecache.dev/v1alpha1/"+path).SetHeader("Accept", asTable).DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("getting %s as a table: %w", path, err)
		}
		var table metav1.Table
		if err := json.Unmarshal(raw, &table); err != nil {
			return fmt.Errorf("reading the table of %s: %w", path, err)
		}
		d.printTable(&table)
	}
	return nil
}

// printTable prints the columns that are not for -o wide only.
func (d *demo) printTable(table *metav1.Table) {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	row := func(cell func(i int) string) {
		var cells []string
		for i, c := range table.ColumnDefinitions {
			if c.Priority == 0 {
				cells = append(cells, cell(i))
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row(func(i int) string { return strings.ToUpper(table.ColumnDefinitions[i].Name) })
	for _, r := range table.Rows {
		row(func(i int) string {
			if r.Cells[i] == nil {
				return ""
			}
			return fmt.Sprint(r.Cells[i])
		})
	}
	_ = w.Flush() // into memory
	d.say("   %s", strings.ReplaceAll(strings.TrimRight(text.String(), "\n"), "\n", "\n   "))
}

// barWidth is the width of a progress bar, in characters.
const barWidth = 20

// progress gives a line with each node's share of its bytes, and whether all is Ready.
func (d *demo) progress(ctx context.Context) (line string, ready bool, err error) {
	ic, err := d.client.EdgecacheV1alpha1().ImageCaches("default").Get(ctx, "pos", metav1.GetOptions{})
	if err != nil {
		return "", false, fmt.Errorf("getting ImageCache pos: %w", err)
	}
	objects, err := d.objects(ctx)
	if err != nil {
		return "", false, err
	}
	ready = meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionReady) && ic.Status.Nodes.Ready == int32(len(d.lab.Nodes()))
	parts := []string{fmt.Sprintf("ready %-4s", ic.Status.Summary.Ready)}
	for i := range objects {
		parts = append(parts, fmt.Sprintf("%s %s %s", objects[i].Name, bar(d.share(&objects[i])), objects[i].Status.Summary.Cached))
	}
	return strings.Join(parts, "  "), ready, nil
}

// share is the part of a node's bytes that is there, as its status says.
func (d *demo) share(o *v1alpha1.NodeImageCache) float64 {
	var done, all int64
	for _, img := range o.Spec.Images {
		all += img.Size
		for _, s := range o.Status.Images {
			switch {
			case s.Name != img.Name:
			case s.Phase == v1alpha1.PhaseCached:
				done += img.Size
			default:
				done += s.BytesPulled
			}
		}
	}
	if all == 0 {
		return 0
	}
	return float64(done) / float64(all)
}

func bar(share float64) string {
	n := min(barWidth, int(share*barWidth+0.5))
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}

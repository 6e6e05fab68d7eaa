package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"edgecache.dev/edgeagent/store"
)

func newDump() *cobra.Command {
	format := "table"
	cmd := &cobra.Command{
		Use:   "dump FILE",
		Short: "Show what a store file has: the wish, the ledger, the journal",
		Long: `Shows what a store file has: whose it is, the wish, what is known of each image, and
what happened that was not told yet. Of sealed credentials only the ids are shown.

The file of an agent that runs is copied first, into $TMPDIR. A file that may be
damaged is looked over with "store check": this command reads it without a guard.`,
		Example: `  edgecache-agent store dump /var/lib/edgecache/state.db
  edgecache-agent store dump /var/lib/edgecache/state.db -o yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			write, ok := map[string]func(io.Writer, *store.Dump) error{"json": dumpJSON, "yaml": dumpYAML, "table": dumpTable}[format]
			if !ok {
				return fmt.Errorf("--output %q is not known: give json, yaml or table", format)
			}
			d, err := store.ReadDump(args[0])
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), d)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", format, "json, yaml or table")
	return cmd
}

func dumpJSON(to io.Writer, d *store.Dump) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	return e.Encode(d)
}

func dumpYAML(to io.Writer, d *store.Dump) error {
	b, err := yaml.Marshal(d)
	if err != nil {
		return err
	}
	_, err = to.Write(b)
	return err
}

func dumpTable(to io.Writer, d *store.Dump) error {
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // Flush tells
	row("NODE\tSCHEMA\tCREATED\tBOOT")
	row("%s\t%d\t%s\t%s", d.Identity.Node, d.Identity.Schema, d.Identity.Created.Format(time.RFC3339), cmp.Or(d.Boot, "-"))
	if d.Wish == nil {
		row("\nNo wish was ever stored.")
	} else {
		row("\nOBJECT\tGENERATION\tKNOWN\tIMAGES\tHELD\tREMOVALS\tCREDENTIALS")
		row("%s\t%d\t%t\t%d\t%d\t%d\t%d", d.Wish.UID, d.Wish.Generation, d.Wish.Known, len(d.Wish.Spec.Images), len(d.Wish.Held), len(d.Wish.Spec.Remove), len(d.Wish.Credentials))
		row("\nWISHED\tDIGEST\tPRIORITY")
		for i := range d.Wish.Spec.Images {
			img := &d.Wish.Spec.Images[i]
			row("%s\t%s\t%d", img.Name, cmp.Or(img.Digest, "-"), img.Priority)
		}
	}
	row("\nLEDGER\tDIGEST\tPREVIOUS\tFAILING\tLOST")
	for i := range d.Ledger {
		e := &d.Ledger[i]
		failing, lost := "-", "-"
		if e.Failure != nil {
			failing = fmt.Sprintf("%s since %s", e.Failure.Reason, e.Failure.Since.Format(time.RFC3339))
		}
		if e.Lost != nil {
			lost = e.Lost.Format(time.RFC3339)
		}
		row("%s\t%s\t%d\t%s\t%s", e.Name, cmp.Or(e.Digest, "-"), len(e.Previous), failing, lost)
	}
	row("\nJOURNAL\tTIME\tIMAGE\tREASON\tMESSAGE")
	for _, r := range d.Journal.Records {
		mark := ""
		if r.Doubtful {
			mark = " (clock not trusted)"
		}
		row("%s\t%s%s\t%s\t%s\t%s", r.Kind, r.Time.Format(time.RFC3339), mark, cmp.Or(r.Image, "-"), cmp.Or(r.Reason, "-"), cmp.Or(r.Message, "-"))
	}
	if d.Journal.Dropped > 0 {
		row("and %d older ones, which had to make room", d.Journal.Dropped)
	}
	return w.Flush()
}

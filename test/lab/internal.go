package main

import (
	"os"

	"github.com/spf13/cobra"

	"edgecache.dev/test/lab/capsule"
	"edgecache.dev/test/lab/labdir"
)

// newJanitorCommand is for the lab itself: it clears a lab away whose process has ended without doing so.
func newJanitorCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "janitor entry",
		Short:  "Clear the lab of entry away when standard input ends",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return labdir.Clean(os.Stdin, args[0]) },
	}
}

// newCapsuleCommand is for the lab itself: it is number one inside a capsule. Its arguments only say, in a list of
// processes, whose capsule it is.
func newCapsuleCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "capsule [whose...]",
		Short:  "Serve a capsule",
		Hidden: true,
		RunE:   func(*cobra.Command, []string) error { return capsule.Serve() },
	}
}

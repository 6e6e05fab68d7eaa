package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"edgecache.dev/cmd/internal/program"
	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/store"
)

const (
	// exitIncomplete says that something wished is not there, or not known to be.
	exitIncomplete = 3
	// watchEvery is how often a status is shown anew with --watch.
	watchEvery = 2 * time.Second
)

// forms of the answer.
var forms = []string{"table", "wide", "json", "yaml"}

// asking is what the status command is told.
type asking struct {
	stateDir string
	form     string // one of forms
	watch    bool
}

func newStatus(code *int) *cobra.Command {
	q := asking{stateDir: cmp.Or(os.Getenv(program.EnvPrefix+"_STATE_DIR"), defaults().StateDir), form: "table"}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the agent on this node holds, and what it is at",
		Long: `Shows what the agent on this node holds, what is on its way and how fast, what fails
and why, and how its links are. It asks the agent on the socket in its state directory,
and so needs neither the API server nor any network, and the same user as the agent,
mostly root.

Before the container runtime has answered images are shown as the agent remembers them,
and marked so.

Exit status: 0 every wished image is there, 3 something is missing or not known yet,
1 no agent answers; what its store remembers is shown then.`,
		Example: `  # What is there and what is not:
  edgecache-agent status

  # Follow pulls until interrupted:
  edgecache-agent status --watch

  # For scripts: what fails, and why
  edgecache-agent status -o json | jq -r '.images[] | select(.phase == "Failed") | .name + ": " + .reason'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			whole, err := q.show(ctx, cmd.OutOrStdout())
			if err == nil && !whole {
				*code = exitIncomplete
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&q.stateDir, "state-dir", q.stateDir, "directory for what the agent remembers, as it was started with")
	fs.StringVarP(&q.form, "output", "o", q.form, strings.Join(forms, ", "))
	fs.BoolVarP(&q.watch, "watch", "w", false, "go on showing it every two seconds")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagDirname("state-dir")
	return cmd
}

// show writes the status once, or again and again until the context ends. It says whether
// every wished image was there at last.
func (q *asking) show(ctx context.Context, out io.Writer) (whole bool, err error) {
	if !slices.Contains(forms, q.form) {
		return false, fmt.Errorf("--output %q is not known: use one of %s", q.form, strings.Join(forms, ", "))
	}
	for {
		s, err := local.Ask(ctx, q.stateDir)
		if errors.Is(err, local.ErrNoAgent) {
			return false, errors.Join(explain(err), q.recall(ctx, out))
		}
		if err != nil {
			return false, err
		}
		if q.watch && q.form != "json" && q.form != "yaml" {
			fmt.Fprint(out, clearScreen)
		}
		if err := q.write(out, s); err != nil || !q.watch {
			return s.Whole(), err
		}
		select {
		case <-ctx.Done():
			return s.Whole(), nil
		case <-time.After(watchEvery):
		}
	}
}

// clearScreen moves to the top of a terminal and empties it.
const clearScreen = "\x1b[H\x1b[2J"

func (q *asking) write(out io.Writer, s *local.Status) error {
	switch q.form {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	case "yaml":
		b, err := yaml.Marshal(s)
		if err == nil {
			_, err = out.Write(b)
		}
		return err
	}
	return s.Table(out, q.form == "wide")
}

// recall shows what the store says whose agent does not run, unless somebody has it open.
func (q *asking) recall(ctx context.Context, out io.Writer) error {
	path := filepath.Join(q.stateDir, store.FileName)
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // there is nothing to recall, and that nobody answers is said
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding own executable: %w", err)
	}
	if err := store.InChild(self, "store", "check")(ctx, path); err != nil {
		return err
	}
	node, desired, ledger, err := store.Recall(path)
	if err != nil {
		return err
	}
	s := edgeagent.StatusOf(desired, ledger)
	s.Node = node
	return q.write(out, &s)
}

// explain says what to do when nobody answers.
func explain(err error) error {
	return fmt.Errorf("%w. Is the agent running (systemctl status edgecache-agent, crictl ps), and with this --state-dir? "+
		"What is shown, if anything, is what its store remembers", err)
}

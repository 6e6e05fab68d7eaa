// Package program is what edgecache's long-running programs have in common: settings from
// file, environment and flags, logging, and an end on SIGINT and SIGTERM.
package program

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation/field"
	logsapi "k8s.io/component-base/logs/api/v1"

	"edgecache.dev/cmd/internal/settings"
)

// EnvPrefix begins the names of environment variables that are settings.
const EnvPrefix = "EDGECACHE"

// Settings is the typed configuration of a program. Load fills it before it is validated.
type Settings interface {
	// Validate names each field that is wrong, its value, and what to do.
	Validate() field.ErrorList
}

// Serve makes a command read its settings and work until it is told to stop. The flags of
// the settings are the caller's; those for the file and for logging are added here.
func Serve(cmd *cobra.Command, s Settings, work func(context.Context) error) {
	fs := cmd.Flags()
	file := fs.String("config", "", "file with settings, YAML or JSON; an unknown key is an error")
	logging := logsapi.NewLoggingConfiguration()
	logsapi.AddFlags(logging, fs)
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := settings.Load(settings.Sources{File: *file, EnvPrefix: EnvPrefix, Flags: fs}, s); err != nil {
			return err
		}
		if errs := s.Validate(); len(errs) > 0 {
			return errs.ToAggregate()
		}
		if err := logsapi.ValidateAndApply(logging, nil); err != nil {
			return fmt.Errorf("setting up logging: %w", err)
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return work(ctx)
	}
}

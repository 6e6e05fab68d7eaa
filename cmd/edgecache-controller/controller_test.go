package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"edgecache.dev/cmd/internal/settings"
	"edgecache.dev/controller/limits"
	"edgecache.dev/registrycheck/access"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit func(*config)
		want string
	}{
		"the defaults":              {func(*config) {}, ""},
		"too many workers":          {func(c *config) { c.NodeWorkers = 257 }, "nodeWorkers: Invalid value: 257: must be from 1 to 256"},
		"no look-ups":               {func(c *config) { c.LookUpWorkers = 0 }, "lookUpWorkers: Invalid value: 0: must be from 1 to 64"},
		"no requests":               {func(c *config) { c.KubeAPIQPS = 0 }, "kubeApiQps"},
		"a lease that is too short": {func(c *config) { c.LeaseDuration = c.RenewDeadline }, "leaseDuration: Invalid value"},
		"which matters only with election": {func(c *config) {
			c.LeaseDuration, c.LeaderElect = c.RenewDeadline, false
		}, ""},
		"a short timeout":          {func(c *config) { c.RegistryTimeout = time.Millisecond }, "registryTimeout: Invalid value"},
		"a limit for nobody":       {func(c *config) { c.Limits = limits.Limits{{}} }, "limits[0].namespaces: Required value"},
		"a grace that is too long": {func(c *config) { c.RelabelGrace = 721 * time.Hour }, "relabelGrace: Invalid value"},
		"a registry without hosts": {func(c *config) { c.Registries = []access.Registry{{PlainHTTP: true}} }, "registries[0].hosts: Required value"},
		"a range that is none":     {func(c *config) { c.GuardedRanges = []string{"10.96.0.1/12"} }, "guardedRanges[0]: Invalid value: \"10.96.0.1/12\": has bits set beyond its length: write 10.96.0.0/12"},
		"a host that is none":      {func(c *config) { c.AllowedHosts = []string{"https://auth.example"} }, "allowedHosts[0]: Invalid value"},
		"a mirror without a scheme": {func(c *config) {
			c.Registries = []access.Registry{{Hosts: []string{"r.example"}, Mirrors: []string{"m.example"}}}
		}, "registries[0].mirrors[0]"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := defaults()
			tc.edit(c)
			errs := c.Validate()
			if tc.want == "" && len(errs) > 0 || tc.want != "" && !strings.Contains(errs.ToAggregate().Error(), tc.want) {
				t.Errorf("errors %v, want %q", errs, tc.want)
			}
		})
	}
}

func TestTheFileIsRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "controller.yaml")
	const text = `
relabelGrace: 2h
sandboxImage: false
guardedRanges: [10.96.0.0/12]
allowedHosts: ["auth.corp.example"]
limits:
- namespaces: ["team-*"]
  registries: ["registry.example:5000"]
  maxPriority: 100
  maxBytes: 20Gi
- namespaces: [retail]
  maxBytes: 1073741824
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := defaults()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.addFlags(flags)
	if err := settings.Load(settings.Sources{File: file, EnvPrefix: "EDGECACHE_TEST", Flags: flags}, c); err != nil {
		t.Fatal(err)
	}
	want := limits.Limits{
		{Namespaces: []string{"team-*"}, Registries: []string{"registry.example:5000"}, MaxPriority: new(int32(100)), MaxBytes: "20Gi"},
		{Namespaces: []string{"retail"}, MaxBytes: "1073741824"},
	}
	if a := c.access(); !slices.Equal(a.GuardedRanges, []string{"10.96.0.0/12"}) || !slices.Equal(a.AllowedHosts, []string{"auth.corp.example"}) {
		t.Errorf("guarded ranges %q, allowed hosts %q", a.GuardedRanges, a.AllowedHosts)
	}
	if diff := cmp.Diff(want, c.Limits); diff != "" || c.RelabelGrace != 2*time.Hour || c.SandboxImage {
		t.Errorf("grace %s, sandbox image %v, limits (-want +got):\n%s", c.RelabelGrace, c.SandboxImage, diff)
	}
}

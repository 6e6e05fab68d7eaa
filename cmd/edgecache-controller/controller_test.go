package main

import (
	"strings"
	"testing"
	"time"

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
		"a registry without hosts": {func(c *config) { c.Registries = []access.Registry{{PlainHTTP: true}} }, "registries[0].hosts: Required value"},
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

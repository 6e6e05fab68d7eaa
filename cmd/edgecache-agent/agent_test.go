package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"

	"edgecache.dev/api/imageref"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit func(*config)
		want string
	}{
		"the defaults":          {func(*config) {}, ""},
		"a node name with case": {func(c *config) { c.NodeName = "Node_1" }, `nodeName: Invalid value: "Node_1"`},
		"no node name":          {func(c *config) { c.NodeName = "" }, "set --node-name"},
		"an unknown runtime":    {func(c *config) { c.Runtime = "docker" }, `runtime: Unsupported value: "docker": supported values: "containerd", "cri", "layout"`},
		"no state directory":    {func(c *config) { c.StateDir = "" }, "stateDir: Required"},
		"too many workers":      {func(c *config) { c.Workers = 17 }, "workers: Invalid value: 17: must be from 1 to 16"},
		"a limit":               {func(c *config) { c.BandwidthLimit = "2Mi" }, ""},
		"a limit in words":      {func(c *config) { c.BandwidthLimit = "2 MB/s" }, `bandwidthLimit: Invalid value: "2 MB/s": must be bytes per second such as 512Ki or 2Mi`},
		"too low a limit":       {func(c *config) { c.BandwidthLimit = "15Ki" }, `bandwidthLimit: Invalid value: "15Ki": is 15360 bytes per second, must be at least 16Ki`},
		"windows":               {func(c *config) { c.PullWindows = []string{"0 1 * * 1,3 for 4h in Europe/Lisbon"} }, ""},
		"a window of no length": {func(c *config) { c.PullWindows = []string{"0 1 * * *"} }, `pullWindows[0]: Invalid value: "0 1 * * *": says not for how long`},
		"no probes":             {func(c *config) { c.ProbeInterval = 0 }, ""},
		"too many probes":       {func(c *config) { c.ProbeInterval = 10 * time.Millisecond }, `probeInterval: Invalid value: "10ms": must be 0 or from 1s to 24h`},
		"a range with bits":     {func(c *config) { c.GuardedRanges = []string{"10.0.0.0/8", "10.96.0.1/12"} }, `guardedRanges[1]: Invalid value: "10.96.0.1/12": has bits set beyond its length: write 10.96.0.0/12`},
		"a host with a scheme":  {func(c *config) { c.AllowedHosts = []string{"https://auth.example"} }, `allowedHosts[0]: Invalid value: "https://auth.example": must be a host without a scheme`},
		"a reserve of nothing":  {func(c *config) { c.DiskReserve = "much" }, `diskReserve: Invalid value: "much": "much" is no number of bytes`},
		"plugins of nowhere":    {func(c *config) { c.ImageCredentialProviderConfig = "/etc/p.yaml" }, "imageCredentialProviderBinDir: Required"},
		"a negative poll":       {func(c *config) { c.Poll = -1 }, "poll: Invalid value"},
		"too short a poll":      {func(c *config) { c.Poll = time.Millisecond }, `poll: Invalid value: "1ms": must be 0, which picks one, or at least 1s`},
		"no address":            {func(c *config) { c.ServeAddress = "" }, ""},
		"an address, no port":   {func(c *config) { c.ServeAddress = "127.0.0.1" }, `serveAddress: Invalid value: "127.0.0.1": must be host:port`},
		"too high a port":       {func(c *config) { c.ServeAddress = ":70000" }, `serveAddress: Invalid value: ":70000": has the port "70000", must be a number`},
		"a rate":                {func(c *config) { c.VerifyRate = "512Ki" }, ""},
		"no rate":               {func(c *config) { c.VerifyRate = "" }, `verifyRate: Invalid value: "": must be bytes per second such as 8Mi`},
		"too low a rate":        {func(c *config) { c.VerifyRate = "1Ki" }, `verifyRate: Invalid value: "1Ki": is 1024 bytes per second, must be at least 64Ki`},
		"mirrors of nowhere":    {func(c *config) { c.HostsDirs = []string{"/etc/containerd/certs.d", "certs.d"} }, `hostsDirs[1]: Invalid value: "certs.d": must begin with /`},
		"mirrors without name":  {func(c *config) { c.HostsDirs = []string{""} }, "hostsDirs[0]: Required"},
		"a socket of the net":   {func(c *config) { c.RuntimeEndpoint = "tcp://10.0.0.1:2375" }, `runtimeEndpoint: Invalid value: "tcp://10.0.0.1:2375": must begin with /`},
		"a socket with scheme":  {func(c *config) { c.RuntimeEndpoint = "unix:///run/containerd/containerd.sock" }, ""},
		"credentials here":      {func(c *config) { c.DockerConfig = "config.json" }, `dockerConfig: Invalid value: "config.json": must begin with /`},
		"a kubelet's file here": {func(c *config) { c.KubeletConfig = "kubelet.yaml" }, `kubeletConfig: Invalid value: "kubelet.yaml": must begin with /`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := defaults()
			c.NodeName = "node-1"
			tc.edit(c)
			errs := c.Validate()
			if tc.want == "" && len(errs) > 0 || tc.want != "" && !strings.Contains(errs.ToAggregate().Error(), tc.want) {
				t.Errorf("errors %v, want %q", errs, tc.want)
			}
		})
	}
}

// TestKeepFree: a kubelet's thresholds count where there is a kubelet.
func TestKeepFree(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		runtime, set string
		percent      float64
	}{
		"set":                      {runtimeLayout, "20%", 20},
		"set, beside a kubelet":    {runtimeCRI, "20%", 20},
		"a kubelet's defaults":     {runtimeContainerd, "", 16},
		"an image layout, no node": {runtimeLayout, "", 5},
	} {
		c := defaults()
		c.Runtime, c.DiskReserve, c.KubeletConfig = tc.runtime, tc.set, filepath.Join(t.TempDir(), "none")
		if got := keepFree(t.Context(), c); got.Percent != tc.percent || got.Bytes != 0 {
			t.Errorf("%s: %+v, want %v %%", name, got, tc.percent)
		}
	}
}

// TestTogether: an agent that cannot go on takes the program with it, and says why.
func TestTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("the store cannot be read")
		ended := false
		err := together(t.Context(), func(context.Context) error { return broken },
			func(ctx context.Context) { <-ctx.Done(); ended = true })
		if !errors.Is(err, broken) || !ended {
			t.Errorf("error = %v, the others ended: %v", err, ended)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wait := func(ctx context.Context) { <-ctx.Done() }
		if err := together(ctx, func(ctx context.Context) error { wait(ctx); return nil }, wait); err != nil {
			t.Errorf("told to stop: %v", err)
		}
	})
}

// TestExamplesWork: each example of run is a command line that says where the wish comes from.
func TestExamplesWork(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.ReplaceAll(newRun().Example, "\\\n", ""), "\n")
	tried := 0
	for _, line := range lines {
		args, ok := strings.CutPrefix(strings.TrimSpace(line), "edgecache-agent run ")
		if !ok {
			continue
		}
		c, fs := defaults(), pflag.NewFlagSet("run", pflag.ContinueOnError)
		c.addFlags(fs)
		err := fs.Parse(strings.Fields(strings.ReplaceAll(args, "$(hostname)", "node-1")))
		if errs := c.Validate(); err != nil || len(errs) > 0 || c.Kubeconfig == "" && c.Manifest == "" {
			t.Errorf("%s: %v, %v, kubeconfig %q, manifest %q", line, err, errs, c.Kubeconfig, c.Manifest)
		}
		tried++
	}
	if tried < 2 {
		t.Errorf("%d examples in %q", tried, lines)
	}
}

func dockerConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	write(t, file, text)
	return file
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustParse(t *testing.T, s string) imageref.Reference {
	t.Helper()
	ref, err := imageref.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestOnePlaceToBeTold: files or an API server, and labels with files only.
func TestOnePlaceToBeTold(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		manifest, kubeconfig string
		labels               []string
		want                 string
	}{
		"files":                {manifest: "/m", labels: []string{"site=lisbon", "edgecache.dev/tier=", "a=b"}},
		"an API server":        {kubeconfig: "/k"},
		"both":                 {manifest: "/m", kubeconfig: "/k", want: `manifest: Invalid value: "/m": an agent works from files or for an API server: leave out --manifest, or --kubeconfig /k`},
		"labels of a Node":     {kubeconfig: "/k", labels: []string{"a=b"}, want: "the API server has the labels of the Node"},
		"a label without =":    {manifest: "/m", labels: []string{"a"}, want: `nodeLabels[0]: Invalid value: "a": write it as key=value`},
		"a label that is none": {manifest: "/m", labels: []string{"x=y", "a=b c"}, want: `nodeLabels[1]: Invalid value: "a=b c"`},
		"a label twice":        {manifest: "/m", labels: []string{"a=b", "a=c"}, want: `nodeLabels[1]: Duplicate value: "a"`},
	} {
		c := defaults()
		c.NodeName, c.Manifest, c.Kubeconfig, c.NodeLabels = "node-1", tc.manifest, tc.kubeconfig, tc.labels
		errs := c.Validate()
		if tc.want == "" && len(errs) > 0 || tc.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, errs, tc.want)
		}
	}
}

package reserve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const gib = 1 << 30

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"10%": 10 * gib, "2Gi": 2 * gib, "0": 0, "0%": 0, "12.5%": 12.5 * gib, "1G": 1e9, "500Gi": 100 * gib} {
		r, err := Parse(text)
		if got := r.Of(100 * gib); err != nil || got != want {
			t.Errorf("%s of 100 GiB is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "%", "100%", "-1%", "NaN%", "-2Gi", "much", "10 %"} {
		if r, err := Parse(text); err == nil || !strings.Contains(err.Error(), "such as") {
			t.Errorf("%q gives %+v, %v, want an error that says what is right", text, r, err)
		}
	}
}

func TestFromKubelet(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		config string
		want   int64 // of 100 GiB
		fails  string
	}{
		"the defaults":                     {"kind: KubeletConfiguration", 16 * gib, ""},
		"collects earlier":                 {"imageGCHighThresholdPercent: 70", 31 * gib, ""},
		"collects never, evicts by itself": {"{imageGCHighThresholdPercent: 100, evictionHard: {imagefs.available: 5%}}", 6 * gib, ""},
		"no thresholds":                    {"{imageGCHighThresholdPercent: 100, evictionHard: {memory.available: 100Mi}}", 1 * gib, ""},
		"the defaults merged in":           {"{imageGCHighThresholdPercent: 100, mergeDefaultEvictionSettings: true, evictionHard: {nodefs.available: 2%}}", 16 * gib, ""},
		"bytes":                            {"{evictionHard: {nodefs.available: 40Gi}}", 40 * gib, ""},
		"soft ones":                        {"{evictionSoft: {imagefs.available: 25%}}", 26 * gib, ""},
		"no YAML":                          {"{", 16 * gib, "reading the kubelet's thresholds"},
		"a threshold that is none":         {"{evictionHard: {nodefs.available: some}}", 16 * gib, `nodefs.available: "some" is no number of bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(path, []byte(tc.config), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := FromKubelet(path)
			if tc.fails == "" && err != nil || tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)) {
				t.Errorf("error = %v, want %q", err, tc.fails)
			}
			if got := r.Of(100 * gib); got != tc.want {
				t.Errorf("%d bytes of 100 GiB, want %d", got, tc.want)
			}
		})
	}
	if r, err := FromKubelet(filepath.Join(t.TempDir(), "none")); err != nil || r != Default() {
		t.Errorf("no file: %+v, %v", r, err)
	}
}

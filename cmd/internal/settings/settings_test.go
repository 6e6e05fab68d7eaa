package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type inner struct {
	Hosts []string `mapstructure:"hosts"`
}

type config struct {
	NodeName string        `mapstructure:"nodeName"`
	Workers  int           `mapstructure:"workers"`
	Every    time.Duration `mapstructure:"every"`
	Dirs     []string      `mapstructure:"dirs"`
	List     []inner       `mapstructure:"list"`
	hidden   int           //nolint:unused // shows that fields without a key are passed over
}

func TestLoad(t *testing.T) {
	tests := map[string]struct {
		file string
		env  map[string]string
		args []string
		want config
	}{
		"defaults stand": {want: config{NodeName: "default", Workers: 2}},
		"file over defaults": {
			file: "nodeName: file\nevery: 90s\ndirs: [a, b]\nlist: [{hosts: [\"registry.example:5000\"]}]\n",
			want: config{NodeName: "file", Workers: 2, Every: 90 * time.Second, Dirs: []string{"a", "b"}, List: []inner{{Hosts: []string{"registry.example:5000"}}}},
		},
		"environment over file": {
			file: "nodeName: file\nworkers: 3\n",
			env:  map[string]string{"T_NODE_NAME": "env", "T_DIRS": "x,y"},
			want: config{NodeName: "env", Workers: 3, Dirs: []string{"x", "y"}},
		},
		"flags over all": {
			file: "nodeName: file\n",
			env:  map[string]string{"T_NODE_NAME": "env"},
			args: []string{"--node-name=flag", "--dirs=p", "--dirs=q"},
			want: config{NodeName: "flag", Workers: 2, Dirs: []string{"p", "q"}},
		},
		"a flag not given does not override": {
			file: "workers: 9\n",
			want: config{NodeName: "default", Workers: 9},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			got, err := load(t, tc.file, tc.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(config{})); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ file, want string }{
		"an unknown key":        {"nodename2: x\n", "nodename2"},
		"an unknown nested key": {"list: [{hostz: [a]}]\n", "hostz"},
		"a wrong type":          {"workers: many\n", "workers"},
		"broken YAML":           {"a: [\n", "reading configuration file"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := load(t, tc.file, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one containing %q", err, tc.want)
			}
		})
	}
	into := config{}
	err := Load(Sources{File: filepath.Join(t.TempDir(), "none.yaml"), EnvPrefix: "T", Flags: pflag.NewFlagSet("", pflag.ContinueOnError)}, &into)
	if err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("missing file: %v", err)
	}
}

func load(t *testing.T, file string, args []string) (config, error) {
	t.Helper()
	c := config{NodeName: "default", Workers: 2}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.String("node-name", c.NodeName, "")
	fs.Int("workers", c.Workers, "")
	fs.StringSlice("dirs", nil, "")
	fs.String("unrelated", "", "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := Load(Sources{File: path, EnvPrefix: "T", Flags: fs}, &c)
	return c, err
}

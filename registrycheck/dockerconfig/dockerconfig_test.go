package dockerconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecache.dev/registrycheck/keychain"
)

const secretWord = "pa55-w0rd"

// helper puts a credential helper into a folder that is made the PATH.
func helper(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\nread server\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func users(t *testing.T, keys keychain.Keychain, repository string) []string {
	t.Helper()
	var all []string
	for _, c := range keys.ForRepository(repository) {
		auth, err := c.Authorization()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, auth.Username+auth.IdentityToken)
	}
	return all
}

func TestHelpers(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	helper(t, dir, "desk", `echo "{\"Username\":\"desk at $server\",\"Secret\":\"`+secretWord+`\"}"`)
	helper(t, dir, "token", `echo "{\"Username\":\"<token>\",\"Secret\":\"identity\"}"`)
	helper(t, dir, "none", `echo "credentials not found in native keychain"; exit 1`)
	helper(t, dir, "broken", `echo "`+secretWord+`"; exit 7`)
	helper(t, dir, "chatty", `echo "`+secretWord+`"`)
	tests := map[string]struct {
		config   string
		registry string
		want     []string
		wrong    string
	}{
		"store":             {`{"credsStore":"desk"}`, "registry.example:5000", []string{"desk at registry.example:5000"}, ""},
		"store, hub":        {`{"credsStore":"desk"}`, "docker.io", []string{"desk at https://index.docker.io/v1/"}, ""},
		"helper before all": {`{"credsStore":"broken","credHelpers":{"registry.example":"desk"}}`, "registry.example", []string{"desk at registry.example"}, ""},
		"static after it":   {`{"credsStore":"desk","auths":{"registry.example":{"username":"static","password":"x"}}}`, "registry.example", []string{"desk at registry.example", "static"}, ""},
		"token":             {`{"credHelpers":{"registry.example":"token"}}`, "registry.example", []string{"identity"}, ""},
		"other registry":    {`{"credHelpers":{"registry.example":"token"}}`, "other.example", nil, ""},
		"no login":          {`{"credsStore":"none"}`, "registry.example", nil, ""},
		"fails":             {`{"credsStore":"broken","auths":{"registry.example":{"username":"static","password":"x"}}}`, "registry.example", []string{"static"}, "docker-credential-broken for registry.example: failed: exit status 7"},
		"no JSON":           {`{"credsStore":"chatty"}`, "registry.example", nil, "gave no login that can be read"},
		"not there":         {`{"credsStore":"absent"}`, "registry.example", nil, "executable file not found"},
		"a path":            {`{"credsStore":"../x"}`, "registry.example", nil, "is no name of a helper"},
		"wrong kind":        {`{"credsStore":{"` + secretWord + `":1}}`, "registry.example", nil, "credsStore must be a text"},
		"not JSON":          {`{"auths":` + secretWord, "registry.example", nil, "not valid JSON at byte"},
	}
	for name, tc := range tests { //nolint:paralleltest // PATH is that of the whole process
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(path, []byte(tc.config), 0o600); err != nil {
				t.Fatal(err)
			}
			keys, err := Load(t.Context(), path, []string{tc.registry})
			if diff := cmp.Diff(tc.want, users(t, keys, tc.registry+"/app")); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
			text := fmt.Sprint(err)
			if tc.wrong == "" && err != nil || !strings.Contains(text, tc.wrong) || strings.Contains(text, secretWord) {
				t.Errorf("error %v, want %q", err, tc.wrong)
			}
		})
	}
}

func TestLocations(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	var files []string
	for _, name := range []string{"auth.json", "docker/config.json", ".docker/config.json", "run/containers/auth.json", ".config/containers/auth.json"} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	tests := map[string]struct {
		env  map[string]string
		want []string
	}{
		"home":      {map[string]string{"HOME": home}, []string{files[2], files[4]}},
		"all":       {map[string]string{"HOME": home, "REGISTRY_AUTH_FILE": files[0], "DOCKER_CONFIG": home + "/docker", "XDG_RUNTIME_DIR": home + "/run"}, []string{files[0], files[1], files[3], files[4]}},
		"not there": {map[string]string{"HOME": home + "/nobody"}, []string{}},
		"nothing":   {nil, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Locations(func(key string) string { return tc.env[key] })
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("locations (-want +got):\n%s", diff)
			}
		})
	}
}

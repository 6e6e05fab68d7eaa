package credentialprovider

import (
	"fmt"
	"testing"

	"github.com/containerd/platforms"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/fetch/fetchtest"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/layout"
)

// TestAPluginOpensARegistry: an image of a registry that asks for a login is brought with
// the one that a plugin gives, and with no other.
func TestAPluginOpensARegistry(t *testing.T) {
	t.Parallel()
	for password, want := range map[string]runtime.Reason{"s3cret": "", "another": fetch.Unauthorized} {
		t.Run(password, func(t *testing.T) {
			t.Parallel()
			reg := fetchtest.NewRegistry(t)
			d := reg.Push(t, "team/app:v1", fetchtest.Image(t, platforms.DefaultString(), fetchtest.Layer(t, 1, 1000)))
			reg.Set(fetchtest.Faults{User: "cloud", Secret: "s3cret"})
			name := reg.Ref(t, "team/app:v1")
			n := newNode(t, says("Registry", "1h", fmt.Sprintf(`{%q: {"username": "cloud", "password": %q}}`, name.Registry(), password)), name.Registry()+"/team")
			driver, err := layout.New(layout.Options{Dir: t.TempDir(), Source: fetch.NewRegistry(fetch.RegistryOptions{
				HostsDirs: []string{reg.HostsDir(t, "")},
				Credentials: func(name imageref.Reference, host string) ([]fetch.Login, error) {
					return n.For(t.Context(), name, host)
				},
			})})
			if err != nil {
				t.Fatal(err)
			}
			err = driver.Ensure(t.Context(), runtime.Request{Name: name, Digest: d}, nil)
			if want == "" && err != nil || want != "" && (err == nil || runtime.ReasonOf(err) != want) {
				t.Errorf("error = %v, want reason %q", err, want)
			}
			if got := len(n.asked(t)); got != 1 {
				t.Errorf("the plugin was asked %d times, want once", got)
			}
			if err := driver.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

package realtest

import (
	"path/filepath"
	"strings"
	"testing"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/cri"
	"edgecache.dev/edgeagent/runtime/runtimetest"
)

// crioConfig is for CRI-O's image service: no pod is run, so what only pods need is left out.
const crioConfig = `[crio]
root = "DIR/root"
runroot = "DIR/run"
storage_driver = "overlay"
log_dir = "DIR/logs"
version_file = "DIR/version"
clean_shutdown_file = "DIR/clean"
[crio.api]
listen = "DIR/s"
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
pinns_path = "/bin/true"
default_runtime = "runc"
namespaces_dir = "DIR/ns"
container_exits_dir = "DIR/exits"
container_attach_socket_dir = "DIR/attach"
hooks_dir = ["DIR/hooks"]
disable_hostport_mapping = true
[crio.runtime.runtimes.runc]
runtime_root = "DIR/runc"
[crio.image]
signature_policy = "DIR/policy.json"
[crio.network]
network_dir = "DIR/cni"
plugin_dirs = ["DIR/cni"]
[crio.nri]
enable_nri = false
`

// crio is a CRI-O.
type crio struct {
	*service
	dir    string
	images api.ImageServiceClient // the test's own hand
}

func (c *crio) socket() string  { return filepath.Join(c.dir, "s") }
func (c *crio) dropIns() string { return filepath.Join(c.dir, "conf.d") }

func startCRIO(t *testing.T) *crio {
	t.Helper()
	dir, tools := workshop(t, "crio", []string{"crio"}, []string{"conmon", "runc"})
	c := &crio{dir: dir}
	write(t, dir, map[string]string{
		"crio.conf":       strings.ReplaceAll(crioConfig, "DIR", dir),
		"policy.json":     `{"default": [{"type": "insecureAcceptAnything"}]}`,
		"registries.conf": "unqualified-search-registries = []\n",
		"conf.d/":         "", "cni/": "", "hooks/": "",
	})
	c.service = serve(t, "crio", dir, []string{"CONTAINERS_REGISTRIES_CONF=" + filepath.Join(dir, "registries.conf")},
		tools.Path("crio"), "--config", filepath.Join(dir, "crio.conf"), "--config-dir", c.dropIns())
	conn := dial(t, c.socket())
	c.images = api.NewImageServiceClient(conn)
	c.awaitReady(t, askImages(conn))
	return c
}

// pinned says whether the kubelet sees an image as pinned.
func (c *crio) pinned(t *testing.T, name imageref.Reference) bool {
	t.Helper()
	resp, err := c.images.ImageStatus(t.Context(), &api.ImageStatusRequest{Image: &api.ImageSpec{Image: name.String()}})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetImage().GetPinned()
}

func TestF20CRIOConformance(t *testing.T) {
	t.Parallel()
	c := startCRIO(t)
	runtimetest.Conformance(t, func(t *testing.T, s runtimetest.Setup) runtimetest.Harness {
		o := cri.Options{Address: c.socket(), Credentials: s.Credentials, CRIOConfigDir: c.dropIns()}
		return runtimetest.Harness{
			Driver: newCRI(t, o),
			Reopen: func(t *testing.T) runtime.Driver { return newCRI(t, o) },
			Pinned: c.pinned,
		}
	})
}

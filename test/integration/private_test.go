package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/node"
	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
	"edgecache.dev/test/product"
)

// passwords are looked for wherever they must not be.
var passwords = []string{"m1staken", "s3cret", "r0tated"}

// TestF03PullSecrets: a pull secret reaches the nodes that need it, sealed; it serves while
// the API server is away; a new password follows; nobody else's right is borrowed.
func TestF03PullSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	one := w.lab.Nodes()[0]
	w.protect("s3cret")
	pushed := w.push("private/pos:v1", 1<<18, 1)

	t.Log("without a secret, and with a wrong one")
	w.apply("none", listing([]string{pushed.Name}))
	w.untilRefused("none", "")
	w.secret("wrong", "m1staken")
	w.apply("wrong", listing([]string{pushed.Name}, "imagePullSecrets: [{name: wrong}, {name: typo}]"))
	w.untilRefused("wrong", "pull secret default/typo does not exist")
	w.untilKnown(one)
	if images := w.object(one.Name()).Spec.Images; len(images) != 0 {
		t.Errorf("the node is asked for %s", asJSON(images))
	}

	t.Log("with the right secret the image comes; who was refused is not served by it")
	w.secret("right", "s3cret")
	w.apply("right", listing([]string{pushed.Name}, "imagePullSecrets: [{name: right}]", "refreshInterval: 0s"))
	w.untilReady("right", 2)
	w.expectNames(one, pushed)
	object := w.object(one.Name())
	if owners := object.Spec.Images[0].Owners; len(owners) != 1 || owners[0] != "default/right" {
		t.Errorf("owners %v, want default/right only", owners)
	}
	if c := object.Spec.Credentials; len(c) != 1 || c[0].KeyID != object.Status.Key.ID || c[0].Match != w.lab.Registry().Addr() {
		t.Errorf("credentials %s, key %s", asJSON(c), asJSON(object.Status.Key))
	}

	w.pullsOffline(one, pushed)
	w.followsTheSecret()
	w.needsThePolicy()
	w.leaksNothing()
}

// protect lets only those in who know the password.
func (w *world) protect(password string) {
	w.lab.Registry().SetAuth(&registry.Auth{Token: true, Protected: []registry.Protected{{Prefix: "private/", User: "reader", Password: password}}})
}

func (w *world) secret(name, password string) {
	w.Helper()
	path := filepath.Join(w.TempDir(), "config.json")
	config := fmt.Sprintf(`{"auths": {%q: {"username": "reader", "password": %q}}}`, w.lab.Registry().Addr(), password)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		w.Fatal(err)
	}
	made := w.kubectl.must(w.T, "create", "secret", "generic", name, "--type=kubernetes.io/dockerconfigjson",
		"--from-file=.dockerconfigjson="+path, "--dry-run=client", "-o=yaml")
	if out, err := w.kubectl.apply(w.T, made); err != nil {
		w.Fatal(out)
	}
}

// untilKnown waits until a node has its object.
func (w *world) untilKnown(n *node.Node) {
	w.Helper()
	eventually(w.T, n.Name()+" has its object", func() error {
		_, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(w.Context(), n.Name(), metav1.GetOptions{})
		return err
	})
}

func (w *world) untilRefused(name, message string) {
	w.Helper()
	w.until(name, "is refused", func(ic *v1alpha1.ImageCache) bool {
		if len(ic.Status.Images) != 1 || ic.Status.Images[0].Check == nil {
			return false
		}
		c := ic.Status.Images[0].Check
		return c.Reason == v1alpha1.ReasonUnauthorized && strings.Contains(c.Message, message)
	})
}

// pullsOffline: a private image that is lost comes back without the API server.
func (w *world) pullsOffline(n *node.Node, p testimage.Pushed) {
	w.Helper()
	w.Log("the API server is away, the agent starts again, the image is lost: it comes back")
	if err := w.lab.ControlPlane().KillAPIServer(); err != nil {
		w.Fatal(err)
	}
	agent := w.agents[n.Name()]
	if err := agent.Kill(); err != nil {
		w.Fatal(err)
	}
	if err := product.EmptyLayout(n); err != nil {
		w.Fatal(err)
	}
	if err := agent.Restart(); err != nil {
		w.Fatal(err)
	}
	w.expectNames(n, p)
	if err := w.lab.ControlPlane().StartAPIServer(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// followsTheSecret: a new password reaches the nodes with the next look-up.
func (w *world) followsTheSecret() {
	w.Helper()
	w.Log("a new password, and an image that needs it")
	w.protect("r0tated")
	w.secret("right", "r0tated")
	next := w.push("private/pos:v2", 1<<18, 2)
	w.apply("right", listing([]string{next.Name}, "imagePullSecrets: [{name: right}]", "refreshInterval: 0s"))
	w.untilReady("right", 2)

	w.Log("what needs no credentials any more has none")
	plain := w.push("public/pos:v1", 1<<10, 3)
	w.apply("right", listing([]string{plain.Name}, "imagePullSecrets: [{name: right}]", "refreshInterval: 0s"))
	w.untilReady("right", 2)
	w.apply("right", listing([]string{next.Name}, "imagePullSecrets: [{name: right}]", "refreshInterval: 0s"))
	w.untilReady("right", 2)
}

// needsThePolicy: without the policy nothing is sealed, and that is said.
func (w *world) needsThePolicy() {
	w.Helper()
	w.Log("without the policy's binding nothing is sealed anew")
	w.kubectl.must(w.T, "delete", "validatingadmissionpolicybinding", "edgecache-agent")
	if err := w.controller.Kill(); err != nil { // it looks once a minute, and when it starts
		w.Fatal(err)
	}
	if err := w.controller.Restart(); err != nil {
		w.Fatal(err)
	}
	w.until("right", "says that sealing is disabled", func(ic *v1alpha1.ImageCache) bool {
		return meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionSealingDisabled)
	})
}

// leaksNothing looks for passwords in all that edgecache wrote.
func (w *world) leaksNothing() {
	w.Helper()
	files := []string{filepath.Join(w.lab.LogDir(), "controller.log")}
	for _, n := range w.lab.Nodes() {
		files = append(files, filepath.Join(w.lab.LogDir(), n.Name(), "agent.log"), filepath.Join(product.StateDir(n), "state.db"))
	}
	texts := map[string]string{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			w.Fatal(err)
		}
		texts[file] = string(b)
	}
	objects, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).List(w.Context(), metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	texts["NodeImageCaches"] = asJSON(objects)
	for _, name := range []string{"none", "wrong", "right"} {
		texts[name] = asJSON(w.cache(name))
	}
	for where, text := range texts {
		for _, password := range passwords {
			if strings.Contains(text, password) {
				w.Errorf("a password is in %s", where)
			}
		}
	}
}

package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/cluster"
	"edgecache.dev/test/lab/controlplane"
	"edgecache.dev/test/product"
)

// request is one request to the API server by somebody.
type request struct {
	who, method, path string
	body              string
	want              string // part of the answer; "" goes through
}

// TestNodeIsolation: design rule 16. Who holds what one node has can write what is that
// node's and nothing else. Each request is a dry run, which passes all that a real one
// passes, so that none depends on another.
//
//nolint:paralleltest,tparallel // The steps follow each other; the requests of a step do not.
func TestNodeIsolation(t *testing.T) {
	t.Parallel()
	i := newIsolation(t)
	t.Run("by the product's own rights", func(t *testing.T) { i.all(t, underOwnRights()) })
	i.file(t, "../../edgeagent/rbac-kubelet.yaml")
	i.until(t, "the rights for agents with a kubelet's identity are in force", request{kubelet2, http.MethodPatch, objects + "/node-2/status", statusBody, ""})
	t.Run("by the rights for kubelets", func(t *testing.T) { i.all(t, underKubeletRights()) })
	i.must(t, wideRights)
	i.until(t, "the wide rights are in force", request{kubelet, http.MethodPatch, objects + "/node-1", specBody, onlyStatus})
	i.until(t, "the policy of Events is in force", request{unbound, http.MethodPost, events, eventBody("Pod", "x"), noEvents})
	t.Run("by the policies alone", func(t *testing.T) { i.all(t, underWideRights()) })
	if n := len(underOwnRights()) + len(underKubeletRights()) + len(underWideRights()); n < 25 {
		t.Errorf("%d requests, want at least 25", n)
	} else {
		t.Logf("%d requests", n)
	}
	t.Run("the policies are sound", i.sound)
	t.Run("control: without the bindings the same requests go through", i.control)
}

// isolation is a cluster with objects of two nodes and clients of everybody.
type isolation struct {
	lab     *cluster.Cluster
	kubectl kubectl
	clients map[string]*http.Client
}

func newIsolation(t *testing.T) *isolation {
	t.Helper()
	// The controller manager, as it checks the types of policies.
	lab := cluster.ForTest(t, cluster.Options{Nodes: 2, ControllerManager: &controlplane.ControllerManager{}})
	if err := product.Prepare(t.Context(), lab); err != nil {
		t.Fatal(err)
	}
	i := &isolation{lab: lab, kubectl: newKubectl(t, lab), clients: map[string]*http.Client{}}
	i.must(t, isolationObjects)
	i.introduce(t)
	i.until(t, "the policy is in force", request{node1, http.MethodPatch, objects + "/node-2/status", statusBody, onlyItsOwn})
	return i
}

// must applies a manifest.
func (i *isolation) must(t *testing.T, manifest string) {
	t.Helper()
	if _, err := i.lab.ControlPlane().Apply(t.Context(), []byte(manifest)); err != nil {
		t.Fatal(err)
	}
}

// file applies a manifest that is installed.
func (i *isolation) file(t *testing.T, path string) {
	t.Helper()
	if _, err := i.lab.ControlPlane().ApplyFile(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

// introduce makes the clients.
func (i *isolation) introduce(t *testing.T) {
	t.Helper()
	cp := i.lab.ControlPlane()
	account := "system:serviceaccount:" + v1alpha1.SystemNamespace + ":"
	all := []string{"system:serviceaccounts", "system:serviceaccounts:" + v1alpha1.SystemNamespace, "system:authenticated"}
	for who, user := range map[string]string{certificate: account + product.AgentAccount, controllerUser: account + "edgecache-controller", stranger: account + "default"} {
		i.add(t, who, certified(t, cp, user, all...))
	}
	i.add(t, kubelet, certified(t, cp, "system:node:node-1", "system:nodes"))
	i.add(t, kubelet2, certified(t, cp, "system:node:node-2", "system:nodes"))
	i.add(t, admin, cp.Admin())
	for who, extra := range map[string]map[string][]string{
		impersonator: nil, impersonator1: {"authentication.kubernetes.io/node-name": {"node-1"}},
	} {
		config := cp.Admin()
		config.Impersonate = rest.ImpersonationConfig{UserName: account + product.AgentAccount, Groups: all, Extra: extra}
		i.add(t, who, config)
	}
	for who, bound := range map[string]*authenticationv1.BoundObjectReference{
		node1: {Kind: "Node", Name: "node-1"}, node2: {Kind: "Node", Name: "node-2"}, namesake: {Kind: "Node", Name: "edgecache-controller"},
		pod1: {Kind: "Pod", Name: "agent-on-node-1"}, homeless: {Kind: "Pod", Name: "agent-nowhere"}, unbound: nil,
	} {
		i.add(t, who, i.bearer(t, bound))
	}
}

func certified(t *testing.T, cp *controlplane.ControlPlane, user string, groups ...string) *rest.Config {
	t.Helper()
	config, err := cp.RESTConfig(user, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// bearer has a token of the agents' account made, bound as kubectl create token binds it.
func (i *isolation) bearer(t *testing.T, bound *authenticationv1.BoundObjectReference) *rest.Config {
	t.Helper()
	args := []string{"-n", v1alpha1.SystemNamespace, "create", "token", product.AgentAccount, "--duration=1h"}
	if bound != nil {
		args = append(args, "--bound-object-kind="+bound.Kind, "--bound-object-name="+bound.Name)
	}
	config := rest.AnonymousClientConfig(i.lab.ControlPlane().Admin())
	config.BearerToken = strings.TrimSpace(i.kubectl.must(t, args...))
	return config
}

func (i *isolation) add(t *testing.T, who string, config *rest.Config) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	i.clients[who] = client
}

func (i *isolation) all(t *testing.T, requests map[string]request) {
	for name, r := range requests {
		t.Run(r.who+" "+name, func(t *testing.T) {
			t.Parallel()
			if err := i.try(t, r); err != nil {
				t.Error(err)
			}
		})
	}
}

// until waits until a request is answered as wanted.
func (i *isolation) until(t *testing.T, what string, r request) {
	t.Helper()
	eventually(t, what, func() error { return i.try(t, r) })
}

// try makes a dry run of a request and compares the answer with the wanted one.
func (i *isolation) try(t *testing.T, r request) error {
	t.Helper()
	if r.method == http.MethodPut { // what is there, once more
		_, r.body = i.send(t, request{who: admin, method: http.MethodGet, path: r.path}, "")
	}
	query := "?dryRun=All"
	if contentType(r) == applied {
		query += "&fieldManager=test&force=true"
	}
	status, answer := i.send(t, r, query)
	went := status < 300
	if went != (r.want == "") || !went && (status != http.StatusForbidden || !strings.Contains(answer, r.want)) {
		return fmt.Errorf("%s: %s %s %s\nanswered %d %s\nwant %q", r.who, r.method, r.path, r.body, status, answer, r.want)
	}
	return nil
}

func (i *isolation) send(t *testing.T, r request, query string) (status int, answer string) {
	t.Helper()
	if r.method == http.MethodGet {
		query = ""
	}
	resp := i.do(t, r, query)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (i *isolation) do(t *testing.T, r request, query string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, i.lab.ControlPlane().URL()+r.path+query, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType(r))
	resp, err := i.clients[r.who].Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

const applied = "application/apply-patch+yaml"

func contentType(r request) string {
	switch {
	case r.method != http.MethodPatch:
		return "application/json"
	case strings.HasPrefix(r.body, "["):
		return "application/json-patch+json"
	case strings.Contains(r.body, `"apiVersion"`):
		return applied
	}
	return "application/merge-patch+json"
}

// sound: the API server has nothing to say against the policies.
func (i *isolation) sound(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(i.lab.ControlPlane().Admin()).AdmissionregistrationV1().ValidatingAdmissionPolicies()
	for _, name := range []string{"edgecache-agent", "edgecache-agent-events"} {
		eventually(t, "the types of "+name+" are checked", func() error {
			policy, err := client.Get(t.Context(), name, metav1.GetOptions{})
			if err == nil && policy.Status.TypeChecking == nil {
				err = fmt.Errorf("status: %s", asJSON(policy.Status))
			}
			if err == nil && len(policy.Status.TypeChecking.ExpressionWarnings) > 0 {
				t.Errorf("%s: %s", name, asJSON(policy.Status.TypeChecking))
			}
			return err
		})
	}
}

// control takes the bindings away: a test that did not notice would prove nothing.
func (i *isolation) control(t *testing.T) {
	foreign := request{node1, http.MethodPatch, objects + "/node-2/status", statusBody, ""}
	event := request{node1, http.MethodPost, events, eventBody("NodeImageCache", "node-2"), ""}
	for _, r := range []request{foreign, event} {
		if err := i.try(t, r); err == nil {
			t.Fatalf("%s %s goes through with the bindings", r.method, r.path)
		}
	}
	i.kubectl.must(t, "delete", "validatingadmissionpolicybinding", "edgecache-agent", "edgecache-agent-events")
	time.Sleep(time.Second)
	i.until(t, "node-1 writes what it likes", foreign)
	i.until(t, "node-1 says what it likes", event)
	if status, answer := i.send(t, foreign, ""); status != http.StatusOK {
		t.Fatalf("not as a dry run: %d %s", status, answer)
	}
	if out := i.kubectl.must(t, "-n", v1alpha1.SystemNamespace, "get", "nodeimagecache", "node-2", "-o", "jsonpath={.status.bootID}"); out != "b" {
		t.Errorf("node-2's status has bootID %q: node-1 did not write it", out)
	}
}

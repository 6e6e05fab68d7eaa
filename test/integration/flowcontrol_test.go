package integration

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// TestAgentsHaveTheirShare: all that agents ask for is served from their own priority level,
// and nothing else is. The API server says in each answer which one it used.
func TestAgentsHaveTheirShare(t *testing.T) {
	t.Parallel()
	i := newIsolation(t)
	client := kubernetes.NewForConfigOrDie(i.lab.ControlPlane().Admin()).FlowcontrolV1()
	schema, err := client.FlowSchemas().Get(t.Context(), "edgecache-agents", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	level, err := client.PriorityLevelConfigurations().Get(t.Context(), "edgecache-agents", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own := flow{schema.UID, level.UID}
	read := request{who: node1, method: http.MethodGet, path: objects + "/node-1"}
	eventually(t, "the schema is in force", func() error {
		if got := i.flow(t, read); got != own {
			return fmt.Errorf("served from %v, want %v", got, own)
		}
		return nil
	})
	byName := "?fieldSelector=metadata.name%3Dnode-1"
	for name, tc := range map[string]struct {
		request
		own bool
	}{
		"lists its object":     {request{who: node1, method: http.MethodGet, path: objects + byName}, true},
		"watches its object":   {request{who: node1, method: http.MethodGet, path: objects + byName + "&watch=true&timeoutSeconds=1"}, true},
		"writes its status":    {request{who: node2, method: http.MethodPatch, path: objects + "/node-2/status", body: statusBody}, true},
		"renews its Lease":     {request{who: node2, method: http.MethodPatch, path: leases + "/node-2", body: leaseSpec}, true},
		"with a pod's token":   {request{who: pod1, method: http.MethodGet, path: objects + "/node-1"}, true},
		"what is refused":      {request{who: node1, method: http.MethodGet, path: secretsOf}, true},
		"asks for the version": {request{who: node1, method: http.MethodGet, path: "/version"}, true},
		"reads an object":      {request{who: controllerUser, method: http.MethodGet, path: objects + "/node-1"}, false},
		"reads something":      {request{who: stranger, method: http.MethodGet, path: objects + "/node-1"}, false},
		"its own Lease":        {request{who: kubelet, method: http.MethodGet, path: "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1"}, false},
		"reads what it likes":  {request{who: admin, method: http.MethodGet, path: objects + "/node-1"}, false},
	} {
		t.Run(tc.who+" "+name, func(t *testing.T) {
			t.Parallel()
			if got := i.flow(t, tc.request); got.schema == "" || (got == own) != tc.own {
				t.Errorf("served from %v; that of the agents is %v", got, own)
			}
		})
	}
}

// flow is what served a request.
type flow struct{ schema, level types.UID }

func (i *isolation) flow(t *testing.T, r request) flow {
	t.Helper()
	resp := i.do(t, r, "")
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	header := func(name string) types.UID { return types.UID(resp.Header.Get(name)) }
	return flow{header(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID), header(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID)}
}

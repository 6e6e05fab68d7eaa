package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/product"
)

// TestTokenDiesWithItsNode: a token that is bound to a Node is worth nothing once the Node is
// deleted, also when one of the same name comes. The agent works on without, and takes up
// its new token by itself.
func TestTokenDiesWithItsNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	n := w.lab.Nodes()[0]
	agent := w.agents[n.Name()]
	pid := agent.Pid()
	pos := w.push("retail/pos:v1", 1<<20, 1)
	w.apply("pos", listing([]string{pos.Name}))
	w.untilReady("pos", 1)
	old := w.withToken(product.AgentTokenFile(n))
	if err := old(t.Context()); err != nil {
		t.Fatalf("the agent's token, before: %v", err)
	}

	t.Log("the Node is deleted: its token is refused, and the agent goes on")
	uid := w.object(n.Name()).UID
	again := w.deleteNode(n.Name())
	began := time.Now()
	eventually(t, "the token is refused", func() error {
		if err := old(t.Context()); !apierrors.IsUnauthorized(err) {
			return fmt.Errorf("the server says %w", errors.Join(errors.New("not 401"), err))
		}
		return nil
	})
	t.Logf("refused after %s", time.Since(began).Round(time.Second)) // the API server remembers for 10 s
	w.lose(n)
	w.expectNames(n, pos)

	t.Log("a Node of that name comes: the old token stays dead, the agent finds the new one")
	began = time.Now()
	again()
	eventually(t, "the agent reports of the new object", func() error {
		nic, err := w.client.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(t.Context(), n.Name(), metav1.GetOptions{})
		if err == nil && (nic.UID == uid || len(nic.Status.Images) == 0) {
			err = fmt.Errorf("status %s", asJSON(nic.Status))
		}
		return err
	})
	t.Logf("reported after %s", time.Since(began).Round(time.Second)) // client-go reads the file once a minute
	if err := old(t.Context()); !apierrors.IsUnauthorized(err) {
		t.Errorf("the token of the Node that was: %v, want 401", err)
	}
	w.untilReady("pos", 1)
	w.expectNames(n, pos)
	if !agent.Running() || agent.Pid() != pid {
		t.Errorf("the agent with process id %d did not live through it: %v", pid, agent.Err())
	}
}

// withToken gives a function that reads the node's object with the token that is in a file now.
func (w *world) withToken(file string) func(context.Context) error {
	w.Helper()
	token, err := os.ReadFile(file)
	if err != nil {
		w.Fatal(err)
	}
	config := rest.AnonymousClientConfig(w.lab.ControlPlane().Admin())
	config.BearerToken = string(token)
	objects := versioned.NewForConfigOrDie(config).EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace)
	return func(ctx context.Context) error {
		_, err := objects.List(ctx, metav1.ListOptions{})
		return err
	}
}

// deleteNode deletes a Node object and gives a function that makes one like it, as a kubelet
// does when it starts.
func (w *world) deleteNode(name string) (again func()) {
	w.Helper()
	nodes := kubernetes.NewForConfigOrDie(w.lab.ControlPlane().Admin()).CoreV1().Nodes()
	n, err := nodes.Get(w.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	if err := nodes.Delete(w.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
	return func() {
		w.Helper()
		n.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: n.Labels}
		if _, err := nodes.Create(w.Context(), n, metav1.CreateOptions{}); err != nil {
			w.Fatal(err)
		}
	}
}

package report

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"edgecache.dev/api/v1alpha1"
)

// Client talks to the API server about one node. It knows four resources only; a typed
// Kubernetes clientset would cost more memory than the rest of the agent.
type Client struct {
	node   string
	caches rest.Interface
	leases rest.Interface
	// LivesWithNode says that the agent goes by the kubelet's identity, and so keeps no Lease:
	// statuses say that its Node shows that it is there. Set before the client is used.
	LivesWithNode bool
}

// NewClient makes a client for a node. It does not connect.
func NewClient(config *rest.Config, node string) (*Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, coordinationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building scheme: %w", err)
		}
	}
	caches, err := restClient(config, scheme, v1alpha1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	leases, err := restClient(config, scheme, coordinationv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	return &Client{node: node, caches: caches, leases: leases}, nil
}

func restClient(config *rest.Config, scheme *runtime.Scheme, gv schema.GroupVersion) (rest.Interface, error) {
	c := rest.CopyConfig(config)
	c.GroupVersion = &gv
	c.APIPath = "/apis"
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("making client for %s: %w", gv, err)
	}
	return client, nil
}

const resource = "nodeimagecaches"

// Caches gives the client of our own group, for reading the node's object.
func (c *Client) Caches() rest.Interface { return c.caches }

// WriteStatus replaces the status of the node's object if it still has the UID.
func (c *Client) WriteStatus(ctx context.Context, uid types.UID, status *v1alpha1.NodeImageCacheStatus) error {
	said := *status
	if c.LivesWithNode {
		said.Heartbeat = v1alpha1.HeartbeatNode
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": uid},
		{"op": "add", "path": "/status", "value": &said},
	})
	if err != nil {
		return fmt.Errorf("encoding status: %w", err)
	}
	err = c.caches.Patch(types.JSONPatchType).Namespace(v1alpha1.SystemNamespace).
		Resource(resource).Name(c.node).SubResource("status").Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("writing status of NodeImageCache %s: %w", c.node, err)
	}
	return nil
}

// WriteEvent makes an Event. One that is there already was made before.
func (c *Client) WriteEvent(ctx context.Context, e *corev1.Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding event: %w", err)
	}
	err = c.caches.Post().AbsPath("/api/v1/namespaces", e.Namespace, "events").
		SetHeader("Content-Type", "application/json").Body(body).Do(ctx).Error()
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("writing event %s: %w", e.Name, err)
	}
	return nil
}

// RenewLease renews the agent's Lease and makes it if it is not there.
func (c *Client) RenewLease(ctx context.Context, duration time.Duration, now time.Time) error {
	err := c.patchLease(ctx, duration, now)
	if apierrors.IsNotFound(err) {
		err = c.createLease(ctx, duration, now)
	}
	if err != nil {
		return fmt.Errorf("renewing lease %s: %w", c.node, err)
	}
	return nil
}

func (c *Client) leaseSpec(duration time.Duration, now time.Time) coordinationv1.LeaseSpec {
	return coordinationv1.LeaseSpec{
		HolderIdentity:       new(c.node),
		LeaseDurationSeconds: new(int32(duration / time.Second)),
		RenewTime:            new(metav1.NewMicroTime(now)),
	}
}

func (c *Client) patchLease(ctx context.Context, duration time.Duration, now time.Time) error {
	patch, err := json.Marshal(map[string]any{"spec": c.leaseSpec(duration, now)})
	if err != nil {
		return err
	}
	return c.leases.Patch(types.MergePatchType).Namespace(v1alpha1.SystemNamespace).
		Resource("leases").Name(v1alpha1.AgentLeaseName(c.node)).Body(patch).Do(ctx).Error()
}

func (c *Client) createLease(ctx context.Context, duration time.Duration, now time.Time) error {
	lease := &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentLeaseName(c.node), Namespace: v1alpha1.SystemNamespace},
		Spec:       c.leaseSpec(duration, now),
	}
	return c.leases.Post().Namespace(v1alpha1.SystemNamespace).Resource("leases").Body(lease).Do(ctx).Error()
}

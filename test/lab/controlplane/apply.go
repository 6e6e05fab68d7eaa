package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// FieldManager is the name under which the lab applies manifests.
const FieldManager = "edgecache-lab"

// establishTimeout bounds the wait for one CustomResourceDefinition.
const establishTimeout = 3 * time.Minute

// Apply applies every document of a YAML manifest by server-side apply, in order, as an administrator, and returns the
// objects as the server answered them. A namespaced object without a namespace goes to "default".
func (c *ControlPlane) Apply(ctx context.Context, manifest []byte) ([]*unstructured.Unstructured, error) {
	objects, err := decode(manifest)
	if err != nil {
		return nil, err
	}
	a, err := c.applier()
	if err != nil {
		return nil, err
	}
	var applied []*unstructured.Unstructured
	for _, object := range objects {
		result, err := a.apply(ctx, object)
		if err != nil {
			return applied, fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		applied = append(applied, result)
	}
	return applied, nil
}

// ApplyFile applies the manifest in the file at path.
func (c *ControlPlane) ApplyFile(ctx context.Context, path string) ([]*unstructured.Unstructured, error) {
	manifest, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("applying a manifest: %w", err)
	}
	applied, err := c.Apply(ctx, manifest)
	if err != nil {
		return applied, fmt.Errorf("applying %s: %w", path, err)
	}
	return applied, nil
}

// InstallCRDs applies the CustomResourceDefinitions in the YAML files of dir and returns when all are served.
func (c *ControlPlane) InstallCRDs(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return fmt.Errorf("installing CRDs: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("installing CRDs: no *.yaml in %s", dir)
	}
	slices.Sort(files)
	var names []string
	for _, file := range files {
		applied, err := c.ApplyFile(ctx, file)
		if err != nil {
			return err
		}
		for _, object := range applied {
			names = append(names, object.GetName())
		}
	}
	return c.awaitEstablished(ctx, names)
}

func (c *ControlPlane) awaitEstablished(ctx context.Context, names []string) error {
	client, err := dynamic.NewForConfig(c.Admin())
	if err != nil {
		return fmt.Errorf("waiting for CRDs: %w", err)
	}
	crds := client.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, name := range names {
		err := wait.PollUntilContextTimeout(ctx, readyPoll, establishTimeout, true, func(ctx context.Context) (bool, error) {
			crd, err := crds.Get(ctx, name, metav1.GetOptions{})
			return err == nil && established(crd), err
		})
		if err != nil {
			return fmt.Errorf("waiting for CRD %s to be established: %w", name, err)
		}
	}
	return nil
}

// readyPoll is the time between two looks at a CRD.
const readyPoll = 50 * time.Millisecond

func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		condition, ok := c.(map[string]any)
		return ok && condition["type"] == "Established" && condition["status"] == "True"
	})
}

// decode splits a manifest into its objects; empty documents are skipped.
func decode(manifest []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading document %d of the manifest: %w", len(objects)+1, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// applier finds out where kinds are served and applies objects there.
type applier struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func (c *ControlPlane) applier() (*applier, error) {
	client, err := dynamic.NewForConfig(c.Admin())
	if err != nil {
		return nil, fmt.Errorf("applying a manifest: %w", err)
	}
	d, err := discovery.NewDiscoveryClientForConfig(c.Admin())
	if err != nil {
		return nil, fmt.Errorf("applying a manifest: %w", err)
	}
	return &applier{client: client, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))}, nil
}

func (a *applier) apply(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	kind := object.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	options := metav1.ApplyOptions{FieldManager: FieldManager, Force: true}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return a.client.Resource(mapping.Resource).Apply(ctx, object.GetName(), object, options)
	}
	namespace := object.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return a.client.Resource(mapping.Resource).Namespace(namespace).Apply(ctx, object.GetName(), object, options)
}

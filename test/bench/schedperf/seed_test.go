package schedperf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/test/utils/client-go/ktesting"
	"sigs.k8s.io/yaml"

	"edgecache.dev/api/client/clientset/versioned"
	"edgecache.dev/api/v1alpha1"
)

const (
	// What nodes hold: 20 of 200 images of 8 layers each, of which the first four are those of ten families.
	imageCount, imagesPerNode, layersPerImage = 200, 20, 8
	registryHost                              = "registry.example"
)

// install has the API server know edgecache's kinds.
func install(tCtx ktesting.TContext) error {
	client, err := apiextensions.NewForConfig(tCtx.RESTConfig())
	if err != nil {
		return fmt.Errorf("making client: %w", err)
	}
	files, err := filepath.Glob("../../../charts/edgecache/crds/*.yaml")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%d CustomResourceDefinitions found: %w", len(files), err)
	}
	for _, file := range files {
		if err := installCRD(tCtx, client, file); err != nil {
			return fmt.Errorf("installing %s: %w", file, err)
		}
	}
	_, err = tCtx.Client().CoreV1().Namespaces().Create(tCtx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.SystemNamespace}}, metav1.CreateOptions{})
	return err
}

func installCRD(ctx context.Context, client apiextensions.Interface, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(text, crd); err != nil {
		return err
	}
	api := client.ApiextensionsV1().CustomResourceDefinitions()
	if _, err := api.Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		now, err := api.Get(ctx, crd.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
}

// seed tells of every node what it holds, as its agent would. It is done for both variants: what the objects themselves
// cost the API server is no part of the comparison.
func seed(tCtx ktesting.TContext, nodes *corev1.NodeList) error {
	config := rest.CopyConfig(tCtx.RESTConfig())
	config.QPS, config.ContentType = -1, runtime.ContentTypeJSON // custom resources know no protobuf
	edge, err := versioned.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making client: %w", err)
	}
	for i := range imageCount {
		if _, err := edge.EdgecacheV1alpha1().ImageContents().Create(tCtx, content(i), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("making ImageContent: %w", err)
		}
	}
	return each(len(nodes.Items), func(i int) error { return seedNode(tCtx, edge, nodes.Items[i].Name, i) })
}

func seedNode(tCtx ktesting.TContext, edge versioned.Interface, name string, i int) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.AgentLeaseName(name)}, Spec: coordinationv1.LeaseSpec{
		HolderIdentity: new(name), LeaseDurationSeconds: new(int32(3600)), RenewTime: new(metav1.NowMicro()),
	}}
	if _, err := tCtx.Client().CoordinationV1().Leases(v1alpha1.SystemNamespace).Create(tCtx, lease, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making a Lease: %w", err)
	}
	caches := edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace)
	made, err := caches.Create(tCtx, &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("making a NodeImageCache: %w", err)
	}
	made.Status = status(i)
	if _, err := caches.UpdateStatus(tCtx, made, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing a status: %w", err)
	}
	return nil
}

// status is that of the i-th node: every image is on one node in ten.
func status(node int) v1alpha1.NodeImageCacheStatus {
	s := v1alpha1.NodeImageCacheStatus{
		ObservedGeneration: 1, Platform: "linux/amd64", AgentVersion: "v0.0.0-perf", UnpackBytesPerSecond: 25_000_000,
		Registries: []v1alpha1.RegistryStatus{{Host: registryHost, Reachable: metav1.ConditionTrue, State: "Up", BytesPerSecond: int64(1_000_000 + node%7*500_000)}},
	}
	for k := range imagesPerNode {
		i := (node*7 + k*(imageCount/imagesPerNode)) % imageCount
		s.OtherImages = append(s.OtherImages, v1alpha1.OtherImage{Digest: mint("index", i), Names: []string{imageName(i)}, Size: 300_000_000})
	}
	return s
}

func imageName(i int) string { return fmt.Sprintf("%s/app%d:v1", registryHost, i) }

func content(i int) *v1alpha1.ImageContent {
	one := v1alpha1.PlatformContent{OS: "linux", Architecture: "amd64", Size: 300_000_000, ManifestDigest: mint("manifest", i), ConfigDigest: mint("config", i)}
	for l := range layersPerImage {
		of := mint("layer", i*layersPerImage+l)
		if l < layersPerImage/2 {
			of = mint("shared", i%10*layersPerImage+l)
		}
		one.Layers = append(one.Layers, v1alpha1.Layer{Digest: of, Size: 300_000_000 / layersPerImage})
	}
	c := &v1alpha1.ImageContent{Repositories: []string{fmt.Sprintf("%s/app%d", registryHost, i)}, Platforms: []v1alpha1.PlatformContent{one}}
	c.Name = v1alpha1.ContentName(digest.Digest(mint("index", i)))
	return c
}

func mint(kind string, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", kind, i))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// each calls do for all numbers below count, some at a time.
func each(count int, do func(int) error) error {
	const atOnce = 16
	var wg sync.WaitGroup
	errs, work := make([]error, atOnce), make(chan int)
	for h := range errs {
		wg.Go(func() {
			for i := range work {
				if err := do(i); err != nil && errs[h] == nil {
					errs[h] = err
				}
			}
		})
	}
	for i := range count {
		work <- i
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}

// Package contents keeps one ImageContent per digest that an ImageCache stands for: its
// platforms and layers, read once and kept where schedulers, tools and a restarted
// controller find them without asking a registry.
//
// It owns the ImageContent objects. Their platforms never change; repositories are only
// added. An object that nothing names is deleted after a day; the last known state of
// nodes that are dark counts as naming it.
//
// Failure model: a write that is lost is found missing the next time the digest is
// resolved; a deletion that comes too late costs a little room in etcd.
package contents

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/clock"

	typedv1alpha1 "edgecache.dev/api/client/clientset/versioned/typed/api/v1alpha1"
	listers "edgecache.dev/api/client/listers/api/v1alpha1"
	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/resolve"
)

const (
	// maxRepositories is how many repositories an object names, as the CRD allows.
	maxRepositories = 32
	// unreferencedFor is how long an object that nothing names is kept.
	unreferencedFor = 24 * time.Hour
	// maxSizes bounds the sizes that are remembered.
	maxSizes = 10_000
)

// Keeper keeps ImageContents. All exported fields are required.
type Keeper struct {
	Lister listers.ImageContentLister
	Client typedv1alpha1.ImageContentInterface
	Clock  clock.PassiveClock

	mu    sync.Mutex
	sizes map[sized]int64 // guarded by mu; worked out before, as the platforms of a digest never change
}

// sized is a digest as a platform downloads it.
type sized struct {
	digest   digest.Digest
	platform string
}

// Keep makes sure that an image's content is recorded, with its repository.
func (k *Keeper) Keep(ctx context.Context, img resolve.Image) error {
	want := img.Content()
	have, err := k.Lister.Get(want.Name)
	switch {
	case apierrors.IsNotFound(err):
		_, err = k.Client.Create(ctx, want, metav1.CreateOptions{})
	case err != nil:
	case !lacks(have, want.Repositories):
		return nil
	default:
		have = have.DeepCopy()
		have.Repositories = append(have.Repositories, want.Repositories...)
		_, err = k.Client.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("recording content of %s: %w", img.Reference, err)
	}
	return nil
}

// Knows says whether the content of a digest is recorded, with a repository.
func (k *Keeper) Knows(ref imageref.Reference, d digest.Digest) bool {
	have, err := k.Lister.Get(v1alpha1.ContentName(d))
	return err == nil && !lacks(have, []string{ref.Name()})
}

// lacks says whether a repository is missing that there is room for.
func lacks(have *v1alpha1.ImageContent, repositories []string) bool {
	return len(have.Repositories) < maxRepositories && slices.ContainsFunc(repositories, func(r string) bool {
		return !slices.Contains(have.Repositories, r)
	})
}

// Size gives the bytes that a node of a platform downloads for a digest: the largest of
// all platforms where the node's is not known or not there, 0 when nothing is recorded.
func (k *Keeper) Size(d digest.Digest, platform string) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := k.sizes[sized{d, platform}]; n != 0 {
		return n
	}
	n := k.workOut(d, platform)
	if k.sizes == nil || len(k.sizes) >= maxSizes {
		k.sizes = map[sized]int64{}
	}
	if n != 0 {
		k.sizes[sized{d, platform}] = n
	}
	return n
}

func (k *Keeper) workOut(d digest.Digest, platform string) int64 {
	p, err := platforms.Parse(platform)
	if err != nil {
		return k.MaxSize(d)
	}
	have, err := k.Lister.Get(v1alpha1.ContentName(d))
	if err != nil {
		return 0
	}
	img, err := resolve.FromContent(have)
	if err != nil {
		return 0
	}
	if size, ok := img.SizeFor(p); ok {
		return size
	}
	return img.MaxSize()
}

// MaxSize gives the bytes of a digest's largest platform, 0 when nothing is recorded.
func (k *Keeper) MaxSize(d digest.Digest) int64 {
	have, err := k.Lister.Get(v1alpha1.ContentName(d))
	if err != nil {
		return 0
	}
	var most int64
	for i := range have.Platforms {
		most = max(most, have.Platforms[i].Size)
	}
	return most
}

// Sweep marks objects that nothing names, unmarks those that are named again, and deletes
// those marked for a day. It goes on after an error and gives the first.
func (k *Keeper) Sweep(ctx context.Context, named map[string]bool) error {
	all, err := k.Lister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing image contents: %w", err)
	}
	var first error
	for _, c := range all {
		if err := k.sweep(ctx, c, named[c.Name]); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (k *Keeper) sweep(ctx context.Context, c *v1alpha1.ImageContent, named bool) error {
	since, marked := c.Annotations[v1alpha1.AnnotationUnreferencedSince]
	switch {
	case named && marked:
		return k.mark(ctx, c, "")
	case !named && !marked:
		return k.mark(ctx, c, k.Clock.Now().UTC().Format(time.RFC3339))
	case named:
		return nil
	}
	t, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return k.mark(ctx, c, k.Clock.Now().UTC().Format(time.RFC3339))
	}
	if k.Clock.Since(t) < unreferencedFor {
		return nil
	}
	err = k.Client.Delete(ctx, c.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &c.ResourceVersion}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting image content %s: %w", c.Name, err)
	}
	return nil
}

// mark sets the annotation to a time, or takes it away.
func (k *Keeper) mark(ctx context.Context, c *v1alpha1.ImageContent, since string) error {
	c = c.DeepCopy()
	delete(c.Annotations, v1alpha1.AnnotationUnreferencedSince)
	if since != "" {
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, v1alpha1.AnnotationUnreferencedSince, since)
	}
	if _, err := k.Client.Update(ctx, c, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("marking image content %s: %w", c.Name, err)
	}
	return nil
}

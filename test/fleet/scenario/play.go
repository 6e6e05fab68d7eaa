package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	typed "edgecache.dev/api/client/clientset/versioned/typed/api/v1alpha1"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/fleet/agent"
)

// play is one scenario being played: a world, an ImageCache and its images.
type play struct {
	*World
	name        string
	images      []image // that every node is to hold
	dark        int     // of the first nodes, which are out of reach
	pullSecrets []corev1.LocalObjectReference
	purged      bool
	notes       []string
	begun       reading           // before the refreshes
	end         map[string]string // what the rollout without kills came to
}

func (p *play) caches() typed.ImageCacheInterface {
	return p.edge.EdgecacheV1alpha1().ImageCaches(metav1.NamespaceDefault)
}

// create applies the ImageCache for all nodes.
func (p *play) create(ctx context.Context, change ...func(*v1alpha1.ImageCacheSpec)) error {
	ic := &v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{Name: p.name}}
	ic.Spec.CacheSpec = p.lists()
	for _, c := range change {
		c(&ic.Spec)
	}
	if _, err := p.caches().Create(ctx, ic, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating ImageCache %s: %w", p.name, err)
	}
	return nil
}

func (p *play) lists() []v1alpha1.CacheSpecImages {
	var list v1alpha1.CacheSpecImages
	for _, img := range p.images {
		list.Images = append(list.Images, v1alpha1.ImageReference(img.name))
	}
	return []v1alpha1.CacheSpecImages{list}
}

// edit changes the ImageCache's spec, and its images to those of the play.
func (p *play) edit(ctx context.Context, change ...func(*v1alpha1.ImageCacheSpec)) error {
	for {
		ic, err := p.caches().Get(ctx, p.name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("reading ImageCache %s: %w", p.name, err)
		}
		ic.Spec.CacheSpec = p.lists()
		for _, c := range change {
			c(&ic.Spec)
		}
		_, err = p.caches().Update(ctx, ic, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			continue // the controller wrote its status meanwhile
		}
		if err != nil {
			return fmt.Errorf("editing ImageCache %s: %w", p.name, err)
		}
		return nil
	}
}

// awaitStatus waits for the status of the present generation.
func (p *play) awaitStatus(ctx context.Context, what string, holds func(*v1alpha1.ImageCacheStatus) bool) error {
	return p.until(ctx, p.name+" "+what, func(ctx context.Context) error {
		ic, err := p.caches().Get(ctx, p.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if ic.Status.ObservedGeneration != ic.Generation || !holds(&ic.Status) {
			return fmt.Errorf("generation %d, status %s", ic.Generation, brief(&ic.Status))
		}
		return nil
	})
}

func brief(s *v1alpha1.ImageCacheStatus) string {
	b, err := json.Marshal(map[string]any{"observed": s.ObservedGeneration, "nodes": s.Nodes, "conditions": s.Conditions, "failures": len(s.Failures)})
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// awaitReady waits until all nodes within reach hold all images.
func (p *play) awaitReady(ctx context.Context) error {
	return p.awaitStatus(ctx, fmt.Sprintf("is Ready on %d nodes", p.Nodes-p.dark), func(s *v1alpha1.ImageCacheStatus) bool {
		return meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady) &&
			int(s.Nodes.Ready) == p.Nodes-p.dark && int(s.Nodes.Unreachable) == p.dark
	})
}

// awaitFull waits until all nodes hold all images.
func (p *play) awaitFull(ctx context.Context) error {
	return p.awaitStatus(ctx, "is FullyCached", func(s *v1alpha1.ImageCacheStatus) bool {
		return meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionFullyCached) && int(s.Nodes.Ready) == p.Nodes
	})
}

// checkEnd says where the world is not as wished.
func (p *play) checkEnd() error {
	want := map[string]string{}
	for _, img := range p.wished() {
		want[img.name] = img.digest
		want[repository(img.name)+"@"+img.digest] = img.digest
	}
	var errs []error
	for _, a := range p.fleet.Agents() {
		if got := a.Engine().Holds(); !maps.Equal(want, got) && len(errs) < 3 {
			errs = append(errs, fmt.Errorf("%s does not hold what is wished (-want +got):\n%s", a.Node(), cmp.Diff(want, got)))
		}
	}
	if n := p.fleet.Counts().Duplicates; n > 0 {
		errs = append(errs, fmt.Errorf("%d images were pulled although they were there", n))
	}
	return errors.Join(errs...)
}

// wished is what every node is to hold.
func (p *play) wished() []image {
	if p.purged {
		return nil
	}
	return p.images
}

// repository gives the name without its tag, which every image here has.
func repository(name string) string { return name[:len(name)-len(":v1")] }

// clear takes the ImageCache and its images away.
func (p *play) clear(ctx context.Context) error {
	err := p.edit(ctx, func(s *v1alpha1.ImageCacheSpec) {
		s.DeletionPolicy = v1alpha1.DeletionRemove
	})
	if err != nil {
		return err
	}
	if err := p.awaitFinalizer(ctx); err != nil {
		return err
	}
	if err := p.caches().Delete(ctx, p.name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting ImageCache %s: %w", p.name, err)
	}
	return p.until(ctx, "nothing is left", func(ctx context.Context) error {
		if _, err := p.caches().Get(ctx, p.name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("ImageCache %s is there (%w)", p.name, err)
		}
		return p.nothingHeld()
	})
}

// awaitFinalizer waits until the controller has seen that images are to go with the object.
func (p *play) awaitFinalizer(ctx context.Context) error {
	return p.until(ctx, p.name+" has its finalizer", func(ctx context.Context) error {
		ic, err := p.caches().Get(ctx, p.name, metav1.GetOptions{})
		if err == nil && !slices.Contains(ic.Finalizers, v1alpha1.FinalizerRemove) {
			err = fmt.Errorf("finalizers are %v", ic.Finalizers)
		}
		return err
	})
}

func (p *play) nothingHeld() error {
	holder := func(a *agent.Agent) bool { return len(a.Engine().Holds()) > 0 }
	if i := slices.IndexFunc(p.fleet.Agents(), holder); i >= 0 {
		a := p.fleet.Agents()[i]
		return fmt.Errorf("%s holds %d names", a.Node(), len(a.Engine().Holds()))
	}
	return nil
}

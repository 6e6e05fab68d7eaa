package scenario

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// SpecFigures tell how fast the controller writes the specs of a fleet in which no agent runs.
type SpecFigures struct {
	Nodes, Images int
	// Apply is the time from the apply until all specs were written, Writing that from the
	// first to the last of them.
	Apply, Writing time.Duration
	// Bare is what a client needs that does nothing but create the same objects.
	Bare time.Duration
	// PeakBytes is the controller's resident memory at most.
	PeakBytes          int64
	LargestObjectBytes int
}

// bareNamespace is where the bare client creates its objects: the controller does not look there.
const bareNamespace = "bare"

// PlaySpecs has all specs written by the controller, then the same by a bare client.
func (w *World) PlaySpecs(ctx context.Context, images int) (*SpecFigures, error) {
	p := &play{World: w, name: "specs"}
	var err error
	if p.images, err = w.pushAll(ctx, "specs/image", images); err != nil {
		return nil, err
	}
	if err := w.quiet(ctx); err != nil {
		return nil, err
	}
	w.say("specs of %d nodes with %d images", w.Nodes, images)
	f := &SpecFigures{Nodes: w.Nodes, Images: images}
	if err := p.writeSpecs(ctx, f); err != nil {
		return nil, err
	}
	if err := w.quiet(ctx); err != nil {
		return nil, err
	}
	f.PeakBytes = w.usedByControllers().peak
	if f.LargestObjectBytes, err = w.largestObject(ctx); err != nil {
		return nil, err
	}
	w.say("the same by a bare client")
	f.Bare, err = w.createBare(ctx)
	return f, err
}

// countEvery is the time between two looks at the API server's counts: each costs it as much as
// a dozen writes, which the bare client would be spared.
const countEvery = time.Second

// writeSpecs applies the ImageCache and follows the writes by the API server's count, which
// costs it less than a watch of all objects.
func (p *play) writeSpecs(ctx context.Context, f *SpecFigures) error {
	const specs = "PUT nodeimagecaches"
	before, err := p.read(ctx)
	if err != nil {
		return err
	}
	begin, first := time.Now(), time.Time{}
	if err := p.create(ctx); err != nil {
		return err
	}
	return p.untilEvery(ctx, countEvery, "all specs are written", func(ctx context.Context) error {
		now, err := p.read(ctx)
		if err != nil {
			return err
		}
		n := now.writes[specs] - before.writes[specs]
		if n > 0 && first.IsZero() {
			first = time.Now()
		}
		if n < p.Nodes {
			return fmt.Errorf("%d of %d", n, p.Nodes)
		}
		f.Apply, f.Writing = time.Since(begin), time.Since(first)
		return nil
	})
}

// createBare copies all objects as fast as the API server takes them from as many hands as
// the controller has.
func (w *World) createBare(ctx context.Context) (time.Duration, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: bareNamespace}}
	if _, err := w.kube.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return 0, fmt.Errorf("making namespace: %w", err)
	}
	model, err := w.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Get(ctx, w.nodes[0], metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("reading the model: %w", err)
	}
	client, begin := w.edge.EdgecacheV1alpha1().NodeImageCaches(bareNamespace), time.Now()
	err = each(w.nodes, func(name string) error {
		object := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: model.Labels}, Spec: model.Spec}
		if _, err := client.Create(ctx, object, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating a bare object: %w", err)
		}
		return nil
	})
	return time.Since(begin), err
}

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"edgecache.dev/api/v1alpha1"
)

// gate follows how many nodes work on a change at the same time, as one watch of all
// NodeImageCaches shows it: those that were told of an image and do not report it Cached.
type gate struct {
	events watch.Interface
	ended  sync.WaitGroup

	working map[string]bool
	peak    int // of working; read when the watch has ended
}

func (p *play) watchGate(ctx context.Context) (*gate, error) {
	events, err := p.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("watching NodeImageCaches: %w", err)
	}
	g := &gate{events: events, working: map[string]bool{}}
	g.ended.Go(func() {
		for e := range events.ResultChan() {
			if nic, ok := e.Object.(*v1alpha1.NodeImageCache); ok {
				g.take(nic)
			}
		}
	})
	return g, nil
}

func (g *gate) take(nic *v1alpha1.NodeImageCache) {
	if slices.ContainsFunc(nic.Spec.Images, func(i v1alpha1.NodeImage) bool { return !holds(nic, i.Digest) }) {
		g.working[nic.Name] = true
	} else {
		delete(g.working, nic.Name)
	}
	g.peak = max(g.peak, len(g.working))
}

func holds(nic *v1alpha1.NodeImageCache, digest string) bool {
	return slices.ContainsFunc(nic.Status.Images, func(s v1alpha1.NodeImageStatus) bool {
		return s.Digest == digest && s.Phase == v1alpha1.PhaseCached
	})
}

// stop ends the watch.
func (g *gate) stop() {
	g.events.Stop()
	g.ended.Wait()
}

// check ends the watch and fails if more nodes worked at a time than may.
func (g *gate) check(most int) error {
	g.stop()
	switch {
	case g.peak == 0:
		return errors.New("the watch of NodeImageCaches showed no node at work")
	case g.peak > most:
		return fmt.Errorf("%d nodes were at work at a time, at most %d may", g.peak, most)
	}
	return nil
}

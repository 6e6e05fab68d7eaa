package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
)

// Scenario is one thing that happens to a fleet.
type Scenario struct {
	Name, About string
	// Private images want credentials, and slow links make their pulls last.
	Private, Slow bool
	// before brings about what the scenario begins with; it is not measured.
	before func(context.Context, *play) error
	// act is what happens, until the fleet has settled.
	act func(context.Context, *play) error
	// after brings back what act left out, and waits for the end state; nil for nothing.
	after func(context.Context, *play) error
}

// Table gives all scenarios.
func Table() []Scenario {
	return []Scenario{
		{Name: "apply", About: "an ImageCache is applied", act: apply},
		{Name: "slow", About: "the same with private images over slow links that break", Private: true, Slow: true, act: apply},
		{Name: "edit", About: "one of the images is replaced", before: apply, act: replaceOne},
		{Name: "refresh", About: "all tags are looked up again and again, and nothing moved", before: refreshed, act: watchRefreshes, after: nothingWritten},
		{Name: "purge", About: "all images are given up", before: apply, act: purge},
		{Name: "offline", About: "30 % of the nodes are out of reach while images come", before: darkenSome, act: apply, after: comeBack},
		{Name: "reconnect", About: "all nodes come back at once to a changed wish", before: loseAll, act: comeBack},
		{Name: "restart", About: "the controller is killed at random points of a rollout", before: undisturbed, act: underKills, after: asUndisturbed},
		{Name: "gone", About: "the registry goes away and comes back while an image is added", before: apply, act: addWhileGone},
	}
}

// Find gives the scenario of a name.
func Find(name string) (Scenario, error) {
	table := Table()
	if i := slices.IndexFunc(table, func(s Scenario) bool { return s.Name == name }); i >= 0 {
		return table[i], nil
	}
	return Scenario{}, fmt.Errorf("scenario %q is unknown; known are %v", name, Names())
}

// Names gives the scenarios' names.
func Names() []string {
	var names []string
	for _, s := range Table() {
		names = append(names, s.Name)
	}
	return names
}

func apply(ctx context.Context, p *play) error {
	if err := p.create(ctx, p.secrets); err != nil {
		return err
	}
	return p.awaitReady(ctx)
}

// secrets names the pull secret. It hurts nobody where images are open to all.
func (p *play) secrets(s *v1alpha1.ImageCacheSpec) {
	s.ImagePullSecrets = p.pullSecrets
}

func replaceOne(ctx context.Context, p *play) error {
	img, err := p.push(ctx, p.name+"/replacement:v2")
	if err != nil {
		return err
	}
	p.images[0] = img
	if err := p.edit(ctx); err != nil {
		return err
	}
	if err := p.awaitReady(ctx); err != nil {
		return err
	}
	if err := p.until(ctx, "the replaced image is gone", func(context.Context) error { return p.checkEnd() }); err != nil {
		return err
	}
	if c := p.fleet.Counts(); c.Pulls != p.Nodes || c.Removals != p.Nodes {
		return fmt.Errorf("%d pulls and %d removals on %d nodes, want one each", c.Pulls, c.Removals, p.Nodes)
	}
	return nil
}

func purge(ctx context.Context, p *play) error {
	err := p.edit(ctx, func(s *v1alpha1.ImageCacheSpec) { s.State = v1alpha1.StatePurged })
	if err != nil {
		return err
	}
	p.purged = true
	return p.awaitStatus(ctx, "is purged", func(s *v1alpha1.ImageCacheStatus) bool {
		c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
		return c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonPurged
	})
}

func darkenSome(ctx context.Context, p *play) error {
	p.dark = p.Nodes * 3 / 10
	return p.darken(ctx, p.dark)
}

// loseAll has the wish changed while all nodes are out of reach.
func loseAll(ctx context.Context, p *play) error {
	if err := apply(ctx, p); err != nil {
		return err
	}
	p.dark = p.Nodes
	if err := p.darken(ctx, p.dark); err != nil {
		return err
	}
	if err := p.add(ctx); err != nil {
		return err
	}
	return wait(ctx, p.Outage)
}

// add adds an image to the wish.
func (p *play) add(ctx context.Context) error {
	img, err := p.push(ctx, p.name+"/added:v1")
	if err != nil {
		return err
	}
	p.images = append(p.images, img)
	return p.edit(ctx)
}

func comeBack(ctx context.Context, p *play) error {
	if err := p.lighten(ctx, p.dark); err != nil {
		return err
	}
	p.dark = 0
	err := p.awaitFull(ctx)
	p.note("busiest second %d requests", p.fleet.BusiestSecond())
	return err
}

// addWhileGone adds an image while the registry is away: what is there stays, and what is
// new comes when the registry is back.
func addWhileGone(ctx context.Context, p *play) error {
	before := p.images
	if err := p.addUnreachable(ctx); err != nil {
		return err
	}
	if err := wait(ctx, p.Outage); err != nil {
		return err
	}
	wished := p.images
	p.images = before
	if err := p.checkEnd(); err != nil {
		return fmt.Errorf("while the registry was away: %w", err)
	}
	p.images = wished
	if err := p.setRegistryGone(ctx, false); err != nil {
		return err
	}
	return p.awaitReady(ctx)
}

func (p *play) addUnreachable(ctx context.Context) error {
	img, err := p.push(ctx, p.name+"/added:v1")
	if err != nil {
		return err
	}
	if err := p.setRegistryGone(ctx, true); err != nil {
		return err
	}
	p.images = append(slices.Clone(p.images), img)
	err = p.edit(ctx)
	return errors.Join(err, p.until(ctx, "the look-up failed", func(ctx context.Context) error {
		ic, err := p.caches().Get(ctx, p.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if meta.IsStatusConditionTrue(ic.Status.Conditions, v1alpha1.ConditionPullable) {
			return fmt.Errorf("all images count as pullable: %s", brief(&ic.Status))
		}
		return nil
	}))
}

func (p *play) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

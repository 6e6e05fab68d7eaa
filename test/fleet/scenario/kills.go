package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"edgecache.dev/api/v1alpha1"
)

// rolloutShare is the share of the nodes that may work at the same time while the
// controller is killed.
const rolloutShare = "20%"

func (p *play) limited(s *v1alpha1.ImageCacheSpec) {
	s.Rollout = &v1alpha1.Rollout{MaxConcurrentNodes: new(intstr.FromString(rolloutShare))}
}

// undisturbed rolls out all images, that which is added under kills among them, and keeps
// what came of it.
func undisturbed(ctx context.Context, p *play) error {
	begin := p.images
	added, err := p.push(ctx, p.name+"/added:v1")
	if err != nil {
		return err
	}
	p.images = append(slices.Clone(begin), added)
	if err := p.create(ctx, p.limited); err != nil {
		return err
	}
	if err := p.awaitReady(ctx); err != nil {
		return err
	}
	if err := p.quiet(ctx); err != nil {
		return err
	}
	if p.end, err = p.outcome(ctx); err != nil {
		return err
	}
	err = p.clear(ctx)
	p.images = begin
	return err
}

// underKills rolls the images out while the controller is killed. After half of the kills
// there is one image more.
func underKills(ctx context.Context, p *play) error {
	gate, err := p.watchGate(ctx)
	if err != nil {
		return err
	}
	defer gate.stop()
	points := killPoints(p.Seed, p.Kills, p.Nodes*len(p.images))
	p.say("seed %d: the controller is killed after %v pulls", p.Seed, points)
	if err := p.create(ctx, p.limited); err != nil {
		return err
	}
	for i, point := range points {
		if err := p.killAt(ctx, point); err != nil {
			return err
		}
		if i == len(points)/2 {
			if err := p.add(ctx); err != nil {
				return err
			}
		}
	}
	p.note("killed %d times", p.Kills)
	if err := p.awaitReady(ctx); err != nil {
		return err
	}
	return gate.check(p.mayWork())
}

// killPoints gives after how many of all pulls the controller is killed, in ascending order.
func killPoints(seed uint64, kills, pulls int) []int {
	rng := rand.New(rand.NewPCG(seed, 7))
	points := make([]int, kills)
	for i := range points {
		points[i] = rng.IntN(pulls)
	}
	slices.Sort(points)
	return points
}

func (p *play) killAt(ctx context.Context, pulls int) error {
	err := p.until(ctx, fmt.Sprintf("%d pulls are done", pulls), func(context.Context) error {
		if n := p.fleet.Counts().Pulls; n < pulls {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.kill()
}

// mayWork gives how many nodes may work at the same time.
func (p *play) mayWork() int {
	n, err := intstr.GetScaledValueFromIntOrPercent(new(intstr.FromString(rolloutShare)), p.Nodes, true)
	if err != nil {
		panic(err) // a constant
	}
	return n
}

// asUndisturbed fails when the kills left anything else than a rollout without them, or had
// anything brought twice.
func asUndisturbed(ctx context.Context, p *play) error {
	end, err := p.outcome(ctx)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(p.end, end); diff != "" {
		return fmt.Errorf("the end differs from that of a rollout without kills (-without +with):\n%s", diff)
	}
	if c, want := p.fleet.Counts(), p.Nodes*len(p.images); c.Pulls != want || c.Removals > 0 {
		return fmt.Errorf("%d pulls and %d removals, want %d pulls, one of each image on each node", c.Pulls, c.Removals, want)
	}
	return nil
}

// outcome is what a rollout comes to in the API: the objects' specs and statuses as JSON by
// name, without what tells of time or of the way there.
func (p *play) outcome(ctx context.Context) (map[string]string, error) {
	ic, err := p.caches().Get(ctx, p.name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading ImageCache %s: %w", p.name, err)
	}
	list, err := p.edge.EdgecacheV1alpha1().NodeImageCaches(v1alpha1.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing NodeImageCaches: %w", err)
	}
	out := map[string]string{"ImageCache": timeless(&ic.Status)}
	for _, nic := range list.Items {
		out[nic.Name] = nodeOutcome(&nic)
	}
	return out, nil
}

func timeless(s *v1alpha1.ImageCacheStatus) string {
	s = s.DeepCopy()
	s.ObservedGeneration = 0
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration, s.Conditions[i].LastTransitionTime = 0, metav1.Time{}
	}
	for i := range s.Images {
		if c := s.Images[i].Check; c != nil {
			c.Time = metav1.Time{}
		}
	}
	return asJSON(s)
}

func nodeOutcome(nic *v1alpha1.NodeImageCache) string {
	images := slices.Clone(nic.Status.Images)
	for i := range images {
		images[i].Since, images[i].Attempts = nil, 0
	}
	return asJSON(map[string]any{"spec": nic.Spec, "images": images})
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

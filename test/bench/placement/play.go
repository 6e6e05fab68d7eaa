package placement

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

const (
	// startUp is what a container takes to be ready once its image is there, in seconds.
	startUp = 1.0
	// settle is how long, in real time, the scheduler may take to hear of what was just reported: to pods it is no time.
	settle = 20 * time.Millisecond
	// prepared is the same after a whole fleet was written.
	prepared = 250 * time.Millisecond
)

// Reports come late, in seconds after the fact: the kubelet looks at its images every 30 s and then has a period of 10 s;
// an agent writes at most once a minute.
const (
	kubeletSoonest, kubeletLatest = 5.0, 45.0
	agentSoonest, agentLatest     = 2.0, 60.0
)

// play is one run of one plan with one variant.
type play struct {
	*world
	*plan
	variant variant
	id      string
	pulls   *pulls
	rng     []*rand.Rand // by node
	events  []event
	told    bool // something was reported since the last pod
	serial  int
	created map[string]float64
	nodeOf  map[string]int
	waits   []float64 // seconds from creation to readiness
	total   int
	old     map[*rollout][]string
	part    map[string]*rollout
	lives   map[string]float64
}

// event is something that happens at a time, in seconds.
type event struct {
	at float64
	do func(context.Context) error
}

func newPlay(w *world, p *plan, v variant, id string) *play {
	r := &play{
		world: w, plan: p, variant: v, id: id, pulls: newPulls(p), total: len(p.arrivals),
		created: map[string]float64{}, nodeOf: map[string]int{}, old: map[*rollout][]string{}, part: map[string]*rollout{}, lives: map[string]float64{},
	}
	for i := range p.nodes {
		r.rng = append(r.rng, rand.New(rand.NewPCG(p.seed, uint64(1000+i))))
	}
	return r
}

// run plays the plan to the moment in which the last pod is ready.
func (r *play) run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	r.schedule()
	for len(r.waits) < r.total {
		at := r.pulls.next()
		if len(r.events) > 0 {
			at = min(at, r.events[0].at)
		}
		if math.IsInf(at, 1) {
			return fmt.Errorf("%d of %d pods are ready, and nothing will happen any more", len(r.waits), r.total)
		}
		for _, ended := range r.pulls.advance(at) {
			r.ended(ended)
		}
		if err := r.due(ctx, at); err != nil {
			return err
		}
	}
	return r.clear(ctx)
}

// due does what is due.
func (r *play) due(ctx context.Context, now float64) error {
	for len(r.events) > 0 && r.events[0].at <= now {
		next := r.events[0]
		r.events = r.events[1:]
		if err := next.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// after has something happen later; what comes at the same time stays in order.
func (r *play) after(seconds float64, do func(context.Context) error) {
	e := event{r.pulls.now + seconds, do}
	i, _ := slices.BinarySearchFunc(r.events, e, func(a, b event) int {
		if a.at == b.at {
			return -1
		}
		return cmp.Compare(a.at, b.at)
	})
	r.events = slices.Insert(r.events, i, e)
}

// schedule makes the first events.
func (r *play) schedule() {
	for _, a := range r.arrivals {
		r.after(a.at, func(ctx context.Context) error { return r.place(ctx, a.image, a.lives, nil) })
	}
	for _, o := range r.rollouts {
		r.total += o.replicas
		for range o.surge {
			r.after(0, func(ctx context.Context) error { return r.place(ctx, o.to, 0, o) })
		}
	}
	for n := range r.nodes {
		if until := r.sites[r.nodes[n].site].noRegistry; until > 0 {
			r.after(until+r.between(n, agentSoonest, agentLatest), func(ctx context.Context) error { return r.agentReports(ctx, n) })
		}
	}
}

func (r *play) between(n int, low, high float64) float64 { return low + (high-low)*r.rng[n].Float64() }

// place makes a pod and has the chosen node start it.
func (r *play) place(ctx context.Context, i *image, lives float64, of *rollout) error {
	if r.told {
		time.Sleep(settle)
		r.told = false
	}
	r.serial++
	pod := r.id + "-" + strconv.Itoa(r.serial)
	name, err := r.pods.place(ctx, pod, i, r.variant.name)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(r.nodes, func(n *node) bool { return n.name == name })
	r.created[pod], r.nodeOf[pod], r.part[pod], r.lives[pod] = r.pulls.now, n, of, lives
	if !r.pulls.want(n, i, pod) {
		r.start(pod)
	}
	return nil
}

// start has a pod ready soon: its image is there.
func (r *play) start(pod string) {
	r.after(startUp, func(ctx context.Context) error { return r.started(ctx, pod) })
}

// ended is a pull that did: its pods start, and it is reported later.
func (r *play) ended(p *pull) {
	for _, pod := range p.pods {
		r.start(pod)
	}
	r.after(r.between(p.node, kubeletSoonest, kubeletLatest), func(ctx context.Context) error { return r.kubeletReports(ctx, p.node) })
	r.after(r.between(p.node, agentSoonest, agentLatest), func(ctx context.Context) error { return r.agentReports(ctx, p.node) })
}

// started is a pod that is ready. In a rollout it makes room for the next one; a pod with an end goes when it is over.
func (r *play) started(ctx context.Context, pod string) error {
	r.waits = append(r.waits, r.pulls.now-r.created[pod])
	if of := r.part[pod]; of != nil {
		if err := r.replaceNext(ctx, of); err != nil {
			return err
		}
	}
	if r.lives[pod] > 0 {
		r.after(r.lives[pod], func(ctx context.Context) error { return r.pods.remove(ctx, pod) })
	}
	return r.pods.ready(ctx, pod)
}

// replaceNext deletes an old pod, and has the next new one follow.
func (r *play) replaceNext(ctx context.Context, of *rollout) error {
	if old := r.old[of]; len(old) > 0 {
		r.old[of] = old[1:]
		delete(r.standing, old[0])
		if err := r.pods.remove(ctx, old[0]); err != nil {
			return err
		}
	}
	placed := 0
	for _, other := range r.part {
		if other == of {
			placed++
		}
	}
	if placed < of.replicas {
		return r.place(ctx, of.to, 0, of)
	}
	return nil
}

func (r *play) held(n int) []*image {
	m := r.pulls.state[n]
	return slices.DeleteFunc(slices.Clone(r.images), func(i *image) bool { return !m.images[i] })
}

func (r *play) kubeletReports(ctx context.Context, n int) error {
	r.told = true
	of := r.nodes[n]
	return r.setNodeStatus(ctx, of.name, nodeObject(of, r.sites[of.site], r.held(n)).Status)
}

func (r *play) agentReports(ctx context.Context, n int) error {
	r.told = true
	of := r.nodes[n]
	return r.setCacheStatus(ctx, of.name, nodeStatus(of, r.sites[of.site], r.pulls.now, r.held(n), r.wished[n], r.variant.tells))
}

// prepare writes the fleet as it is before the first pod.
func (r *play) prepare(ctx context.Context) error {
	if err := r.renew(ctx, r.nodes); err != nil {
		return err
	}
	if err := r.setContents(ctx, contents(r.plan, r.variant.tells)); err != nil {
		return err
	}
	var numbers []int
	for n := range r.nodes {
		numbers = append(numbers, n)
	}
	err := each(numbers, func(n int) error {
		of := r.nodes[n]
		if err := r.setNode(ctx, nodeObject(of, r.sites[of.site], r.held(n))); err != nil {
			return err
		}
		return r.setCache(ctx, of.name, nodeWish(r.wished[n]), nodeStatus(of, r.sites[of.site], 0, r.held(n), r.wished[n], r.variant.tells))
	})
	if err != nil {
		return err
	}
	if err := r.stand(ctx); err != nil {
		return err
	}
	time.Sleep(prepared)
	return nil
}

// standingPod is one that runs before the first pod of a run.
type standingPod struct {
	name, on, what string
	make           func(context.Context) error
}

// stand has the pods run that the plan begins with, and no others.
func (r *play) stand(ctx context.Context) error {
	var gone []string
	want := r.standingPods()
	for name, what := range r.standing {
		if !slices.ContainsFunc(want, func(s standingPod) bool { return s.name == name && s.what == what }) {
			gone = append(gone, name)
			delete(r.standing, name)
		}
	}
	if err := each(gone, func(name string) error { return r.pods.remove(ctx, name) }); err != nil {
		return err
	}
	want = slices.DeleteFunc(want, func(s standingPod) bool { return r.standing[s.name] != "" })
	for _, s := range want {
		r.standing[s.name] = s.what
	}
	return each(want, func(s standingPod) error { return s.make(ctx) })
}

func (r *play) standingPods() (all []standingPod) {
	for _, n := range r.nodes {
		if n.ballast > 0 {
			all = append(all, standingPod{"ballast-" + n.name, n.name, strconv.FormatInt(n.ballast, 10), func(ctx context.Context) error {
				return r.pods.fill(ctx, "ballast-"+n.name, n.name, n.ballast)
			}})
		}
	}
	for k, o := range r.rollouts {
		r.old[o] = nil
		v1 := r.images[slices.IndexFunc(r.images, func(i *image) bool { return i.repository == o.to.repository })]
		for i, n := range o.old {
			name, on := fmt.Sprintf("old-%d-%d", k, i), r.nodes[n].name
			r.old[o] = append(r.old[o], name)
			all = append(all, standingPod{name, on, on + "/" + v1.name(), func(ctx context.Context) error { return r.pods.put(ctx, name, v1, on) }})
		}
	}
	return all
}

// clear takes the run's pods away.
func (r *play) clear(ctx context.Context) error {
	var names []string
	for pod := range r.created {
		names = append(names, pod)
	}
	return each(names, func(name string) error { return r.pods.remove(ctx, name) })
}

package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Figures are what a scenario cost.
type Figures struct {
	Scenario string `json:"scenario"`
	Nodes    int    `json:"nodes"`
	Images   int    `json:"images"`
	// Writes are requests by verb and resource, from the beginning until the fleet had settled.
	Writes writes `json:"writes"`
	// WritesPerPair is their number by node and image.
	WritesPerPair float64 `json:"writesPerPair"`
	// WritesAfter came until nobody wrote any more.
	WritesAfter int `json:"writesAfter"`
	// Refused were answered with an error, and count all the same.
	Refused       int     `json:"refused"`
	SettleSeconds float64 `json:"settleSeconds"`
	// ControllerPeakBytes is of resident memory, of the largest controller since its start.
	ControllerCPUSeconds float64 `json:"controllerCPUSeconds"`
	ControllerPeakBytes  int64   `json:"controllerPeakBytes"`
	LargestObjectBytes   int     `json:"largestObjectBytes"`
	// Pulls were completed by all nodes together, Broken were not.
	Pulls  int `json:"pulls"`
	Broken int `json:"brokenPulls"`
	// Notes say what is peculiar to the scenario.
	Notes []string `json:"notes,omitempty"`
}

// Total gives the number of all writes.
func (f *Figures) Total() int { return f.Writes.sum() }

// SpecWrites gives how often specs of nodes were written.
func (f *Figures) SpecWrites() int { return f.Writes["PUT nodeimagecaches"] }

// Play plays a scenario and gives what it cost. An error says that the end state is wrong.
// Afterwards the world is as before.
func (w *World) Play(ctx context.Context, s Scenario, images int) (*Figures, error) {
	w.say("scenario %s: %s", s.Name, s.About)
	p, err := w.prepare(ctx, s, images)
	if err != nil {
		return nil, fmt.Errorf("preparing scenario %s: %w", s.Name, err)
	}
	w.say("…begins")
	f, err := p.measure(ctx, s, images)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
	}
	w.say("…ended as it should")
	if err := p.clear(ctx); err != nil {
		return nil, fmt.Errorf("after scenario %s: %w", s.Name, err)
	}
	return f, nil
}

func (w *World) prepare(ctx context.Context, s Scenario, images int) (*play, error) {
	p := &play{World: w, name: s.Name}
	prefix := s.Name + "/image"
	if s.Private {
		prefix = privatePrefix + prefix
		p.pullSecrets = []corev1.LocalObjectReference{{Name: pullSecret}}
		if err := w.lock(ctx); err != nil {
			return nil, err
		}
	}
	var err error
	if p.images, err = w.pushAll(ctx, prefix, images); err == nil && s.before != nil {
		err = s.before(ctx, p)
	}
	return p, errors.Join(err, w.quiet(ctx))
}

func (p *play) measure(ctx context.Context, s Scenario, images int) (*Figures, error) {
	p.slow(s.Slow)
	p.fleet.Reset()
	before, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	cpu, begin := p.usedByControllers().cpu, time.Now()
	if err := s.act(ctx, p); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	after, err := p.read(ctx)
	if err != nil {
		return nil, err
	}
	f := &Figures{
		Scenario: s.Name, Nodes: p.Nodes, Images: images, SettleSeconds: took.Seconds(),
		Writes: after.writes.since(before.writes), Refused: after.refused - before.refused,
	}
	f.WritesPerPair = float64(f.Writes.sum()) / float64(p.Nodes*images)
	return f, p.conclude(ctx, s, f, after, cpu)
}

// conclude waits for the end state, checks it and completes the figures.
func (p *play) conclude(ctx context.Context, s Scenario, f *Figures, settled reading, cpu time.Duration) error {
	if err := p.quiet(ctx); err != nil {
		return err
	}
	end, err := p.read(ctx)
	if err != nil {
		return err
	}
	f.WritesAfter = end.writes.sum() - settled.writes.sum()
	used := p.usedByControllers()
	f.ControllerCPUSeconds, f.ControllerPeakBytes = (used.cpu - cpu).Seconds(), used.peak
	f.LargestObjectBytes, err = p.largestObject(ctx)
	if s.after != nil {
		err = errors.Join(err, s.after(ctx, p))
	}
	counts := p.fleet.Counts()
	f.Pulls, f.Broken, f.Notes = counts.Pulls, counts.Broken, p.notes
	return errors.Join(err, p.checkEnd())
}

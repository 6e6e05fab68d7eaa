package registrycheck

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"edgecache.dev/registrycheck/resolve"
)

// Checker checks images. Close it when done. Its methods may be called from many
// goroutines.
type Checker struct {
	options  Options
	resolver *resolve.Resolver
}

// New makes a Checker. The error names the option that is wrong and what to write
// instead; CA files are read here.
func New(o Options) (*Checker, error) {
	switch o.Runtime {
	case "":
		o.Runtime = Containerd
	case Containerd, CRIO, Docker:
	default:
		return nil, fmt.Errorf("runtime %q is not known: it must be %s, %s or %s", o.Runtime, Containerd, CRIO, Docker)
	}
	if o.MaxWait < 0 || o.Images < 0 {
		return nil, errors.New("MaxWait and Images must not be below zero")
	}
	if o.Images == 0 {
		o.Images = defaultImages
	}
	if o.Settings.MaxRequestsPerHost == 0 {
		o.Settings.MaxRequestsPerHost = DefaultMaxRequestsPerHost
	}
	r, err := resolve.New(o.Settings, o.Access...)
	if err != nil {
		return nil, err
	}
	return &Checker{options: o, resolver: r}, nil
}

// Close ends idle connections. Checks that are running go on.
func (c *Checker) Close() { c.resolver.Close() }

// Check checks one image.
func (c *Checker) Check(ctx context.Context, request Request) Result {
	return c.CheckAll(ctx, []Request{request}, nil)[0]
}

// CheckAll checks images together, so that what they share is asked for once, and gives
// the results in their order. done, unless nil, is told of each as it is there, from one
// goroutine at a time.
func (c *Checker) CheckAll(ctx context.Context, requests []Request, done func(i int, r Result)) []Result {
	results := make([]Result, len(requests))
	told := make(chan int)
	r := newRun(c)
	var group errgroup.Group
	group.SetLimit(c.options.Images)
	go func() {
		for i, request := range requests {
			group.Go(func() error {
				results[i] = r.check(ctx, request)
				told <- i
				return nil
			})
		}
		_ = group.Wait() // no error is returned
		close(told)
	}()
	for i := range told {
		if done != nil {
			done(i, results[i])
		}
	}
	return results
}

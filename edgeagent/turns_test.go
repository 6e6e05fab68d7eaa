package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
)

// dark is a registry that takes its time to fail, beside one that answers at once.
type dark struct {
	mu    sync.Mutex
	asked map[string]bool
}

func (d *dark) ask(ctx context.Context, name imageref.Reference) error {
	d.mu.Lock()
	d.asked[name.String()] = true
	d.mu.Unlock()
	if !strings.HasPrefix(name.String(), "a.io/") {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(30 * time.Second):
		return &fetch.Error{Reason: fetch.NetworkError, Err: errors.New("i/o timeout")}
	}
}

func (d *dark) Digest(ctx context.Context, name imageref.Reference) (digest.Digest, error) {
	return d1, d.ask(ctx, name)
}

func (d *dark) knows(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[name]
}

// behindDark pulls only what the dark registry does not hold up.
type behindDark struct {
	*driver
	dark *dark
}

func (b *behindDark) Ensure(ctx context.Context, r runtime.Request, progress func(runtime.Progress)) error {
	if err := b.dark.ask(ctx, r.Name); err != nil {
		return err
	}
	return b.driver.Ensure(ctx, r, progress)
}

// TestADarkRegistryTakesNotAllTurns: forty images of a registry that is dark stand before one
// of another; it is asked for, and pulled, within the hour.
func TestADarkRegistryTakesNotAllTurns(t *testing.T) {
	t.Parallel()
	for name, resolve := range map[string]v1alpha1.ResolveMode{"tags to look up": v1alpha1.ResolveNode, "images to pull": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := &dark{asked: map[string]bool{}}
				b := &bench{t: t, dir: t.TempDir(), driver: newDriver(), desk: &desk{}}
				b.as = func(drv *driver) runtime.Driver { return &behindDark{drv, d} }
				b.start(Options{Resolver: d})
				defer b.stop()
				var list []v1alpha1.NodeImage
				for i := range 41 {
					img := image(fmt.Sprintf("a.io/app%02d:v1", i), d1)
					if i == 40 {
						img = image("z.io/app:v1", d1)
					}
					if img.Resolve = resolve; resolve != "" {
						img.Digest = ""
					}
					list = append(list, img)
				}
				b.wish(1, images(list...))
				time.Sleep(time.Hour)
				if !d.knows("z.io/app:v1") {
					t.Error("it never had its turn")
				}
			})
		})
	}
}

package scenario

import (
	"context"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/test/lab/registry"
)

func refreshed(ctx context.Context, p *play) error {
	if err := p.create(ctx, func(s *v1alpha1.ImageCacheSpec) {
		s.ImagePullPolicy, s.RefreshInterval = v1alpha1.PullAlways, &metav1.Duration{Duration: p.RefreshEvery}
	}); err != nil {
		return err
	}
	return p.awaitReady(ctx)
}

// watchRefreshes waits until each tag was looked up often enough.
func watchRefreshes(ctx context.Context, p *play) (err error) {
	if p.begun, err = p.read(ctx); err != nil {
		return err
	}
	p.lab.Registry().ResetRequests()
	// A refresh comes a tenth late at most; the first one falls anywhere within an interval.
	ctx, cancel := context.WithTimeout(ctx, p.Patience+time.Duration(p.Refreshes+2)*p.RefreshEvery)
	defer cancel()
	for {
		fewest := p.fewestLookups()
		if fewest >= p.Refreshes {
			p.note("%d refreshes at an interval of %s", fewest, p.RefreshEvery)
			return nil
		}
		if err := wait(ctx, pollEvery); err != nil {
			return fmt.Errorf("waiting for %d refreshes: %w, some tag was looked up %d times", p.Refreshes, err, fewest)
		}
	}
}

// fewestLookups gives how often that tag was looked up that was looked up least.
func (p *play) fewestLookups() int {
	counts := map[string]int{}
	for _, r := range p.lab.Registry().Requests().Where(isLookup) {
		counts[p.lab.Registry().Addr()+"/"+r.Repository+":"+r.Manifest]++
	}
	fewest := counts[p.images[0].name]
	for _, img := range p.images {
		fewest = min(fewest, counts[img.name])
	}
	return fewest
}

func isLookup(r registry.Request) bool { return r.Manifest != "" && r.Method == http.MethodHead }

// nothingWritten fails when anything but Leases was written since the refreshes began.
func nothingWritten(ctx context.Context, p *play) error {
	now, err := p.read(ctx)
	if err != nil {
		return err
	}
	if written := now.all.since(p.begun.all); written.sum() > 0 {
		err = fmt.Errorf("nothing was to do, and there were %d writes: %v", written.sum(), written)
	}
	return err
}

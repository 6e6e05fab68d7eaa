package credentialprovider

import (
	"context"
	"sync"
	"time"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
)

// reload is how often a configuration is read again that could not be used.
const reload = time.Minute

// Configured are the plugins of a configuration that need not be there yet, or be right: a node
// that nobody reaches does without them meanwhile. It may be used by several goroutines at once.
type Configured struct {
	path, programs string
	loaded         func(*Providers)

	mu   sync.Mutex // guards what follows
	all  *Providers // nil while there are none
	err  error      // why
	next time.Time  // not read before
}

// Configure reads a configuration as Load does, now and until that went well. The function is
// told once it has.
func Configure(path, programs string, loaded func(*Providers)) *Configured {
	c := &Configured{path: path, programs: programs, loaded: loaded}
	c.providers()
	return c
}

// providers gives the plugins, nil while there are none.
func (c *Configured) providers() *Providers {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.all == nil && !now.Before(c.next) {
		c.all, c.err = Load(c.path, c.programs)
		c.next = now.Add(reload)
		if c.err == nil {
			c.loaded(c.all)
		}
	}
	return c.all
}

// For gives the logins for an image at a host as Providers does, none while there are no plugins.
func (c *Configured) For(ctx context.Context, name imageref.Reference, host string) ([]fetch.Login, error) {
	all := c.providers()
	if all == nil {
		return nil, nil
	}
	return all.For(ctx, name, host)
}

// Trouble says why there are no plugins, nil when there are. It reads the configuration anew
// where that is due.
func (c *Configured) Trouble() error {
	c.providers()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

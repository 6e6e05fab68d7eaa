package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/keyring"
	"edgecache.dev/edgeagent/links"
	"edgecache.dev/edgeagent/local"
	"edgecache.dev/edgeagent/quiet"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/store"
)

// run works with the runtime that is set, or found below a root, until the context ends.
func run(ctx context.Context, c *config, root string) error {
	if err := log.SetLevel("error"); err != nil { // of containerd's packages, which warn of what is no trouble
		return err
	}
	logger := quiet.Logger(klog.FromContext(ctx))
	ctx = klog.NewContext(ctx, logger)
	logger.Info("Starting", "program", "edgecache-agent", "version", version.Get().GitVersion, "config", c)
	memory, err := remember(ctx, c)
	if err != nil {
		return err
	}
	first, err := newWaiting(memory)
	if err != nil {
		return errors.Join(err, memory.Close())
	}
	contact, answers := &local.Contact{}, newFront(first)
	defer serve(ctx, c, answers, contact, memory)()
	if err := c.found(ctx, root); err != nil {
		if ctx.Err() != nil {
			err = nil // told to stop before there was a runtime
		}
		return errors.Join(err, memory.Close())
	}
	key, err := store.OpenKey(ctx, c.StateDir, c.NodeName)
	if err != nil {
		return errors.Join(err, memory.Close())
	}
	ring := keyring.New(key)
	plugins := credentialPlugins(ctx, c)
	login := credentials(ring, c.DockerConfig, plugins) //nolint:contextcheck // asked for in pulls, which have none to give
	windows, err := c.windows()
	if err != nil {
		return errors.Join(err, memory.Close())
	}
	watch := links.New(ctx, links.Options{Memory: memory, ProbeInterval: c.ProbeInterval, Network: links.NetworkChanges})
	source := fetch.NewRegistry(fetch.RegistryOptions{
		HostsDirs: c.HostsDirs, Credentials: login, Version: version.Get().GitVersion, DialContext: c.guard().DialContext, Witness: watch,
	})
	driver, err := awaitDriver(ctx, first.fails, func() (runtime.Driver, error) { return newDriver(c, source, login) }) //nolint:contextcheck,nolintlint // opening a layout directory takes no context; the linter sees that only at times
	if err != nil || driver == nil {
		return errors.Join(err, memory.Close())
	}
	from, err := newOrders(c, memory, contact, watch)
	if err != nil {
		return errors.Join(err, driver.Close(), memory.Close())
	}
	verify, err := newVerification(ctx, c, memory, driver)
	if err != nil {
		return errors.Join(err, driver.Close(), memory.Close())
	}
	agent := edgeagent.New(memory, driver, from, verify.options(edgeagent.Options{
		Workers: c.Workers, Poll: c.Poll, Version: version.Get().GitVersion, Built: built(), BootID: bootID(), Disk: disk, Keyring: keys{ring, plugins}, Resolver: source,
		Rest:   debug.FreeOSMemory, // a pull's buffers would stay for as long as nothing else needs them
		Prober: source, Reserve: keepFree(ctx, c), Kubelet: c.kubelet(),
		Links: watch, Windows: windows, LinkSettings: c.linkSettings(),
	}))
	verify.agent = agent
	watch.Notify(agent.Look)
	watch.Tell(agent.LinkTurned)
	answers.put(agent)
	err = together(ctx, agent.Run, verify.run,
		func(ctx context.Context) { watch.Run(ctx, source) },
		func(ctx context.Context) { from.run(ctx, agent) },
	)
	logger.Info("Stopped; partial downloads stay")
	return errors.Join(err, driver.Close(), memory.Close())
}

// together works until the main part ends, for whatever reason, and ends the others then.
func together(ctx context.Context, main func(context.Context) error, others ...func(context.Context)) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, other := range others {
		wg.Go(func() { other(ctx) })
	}
	err := main(ctx)
	cancel()
	wg.Wait()
	return err
}

// remember opens the store. Damage is said and does not stop the agent.
func remember(ctx context.Context, c *config) (*store.Store, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding own executable: %w", err)
	}
	memory, origin, err := store.Open(ctx, c.StateDir, c.NodeName, store.InChild(self, "store", "check"))
	if err != nil {
		return nil, err
	}
	if origin.Degraded != nil {
		klog.FromContext(ctx).Error(origin.Degraded, "The agent works from memory until the store can be used")
	}
	if origin.Damage != nil {
		klog.FromContext(ctx).Error(origin.Damage, "The store was damaged and is made anew: nothing is removed until the API server says again what is wished", "aside", origin.Aside, "wish", origin.Wish)
	}
	return memory, nil
}

// built is when this program's sources were committed, zero when that is not known.
func built() (at time.Time) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return at
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ = time.Parse(time.RFC3339, s.Value) // zero when it is no time
		}
	}
	return at
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func disk(path string) (*v1alpha1.DiskStatus, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil, fmt.Errorf("asking for free space of %s: %w", path, err)
	}
	unit := int64(fs.Bsize) //nolint:unconvert // is int32 on 32-bit platforms
	return &v1alpha1.DiskStatus{Capacity: int64(fs.Blocks) * unit, Available: int64(fs.Bavail) * unit}, nil
}

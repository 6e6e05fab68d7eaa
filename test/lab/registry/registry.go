package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"edgecache.dev/test/lab/port"
	"edgecache.dev/test/lab/process"
)

// Options say where a registry runs.
type Options struct {
	// Dir is its folder; it is made and left for the caller to remove.
	Dir string
	// Log is the log file; empty is Dir/registry.log.
	Log string
	// Binary is the path of distribution's registry program.
	Binary string
	// Address is where clients come; the zero value is a free port of 127.0.0.1.
	Address netip.AddrPort
	// Timeout bounds the start; 0 is three minutes.
	Timeout time.Duration
}

// A Registry is a running registry with its door.
type Registry struct {
	options Options
	address *port.Reservation
	direct  *http.Transport
	proxy   *proxy
	process *process.Process
}

// maxSocketPath is the longest path a unix socket can have on Linux (sun_path, less the final NUL).
const maxSocketPath = 107

// Start starts a registry and returns when it answers.
func Start(ctx context.Context, o Options) (*Registry, error) {
	r := &Registry{options: o}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the registry: %w", err), r.Close())
	}
	return r, nil
}

func (r *Registry) start(ctx context.Context) error {
	if r.options.Log == "" {
		r.options.Log = filepath.Join(r.options.Dir, "registry.log")
	}
	if !r.options.Address.IsValid() {
		r.options.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	if r.options.Timeout == 0 {
		r.options.Timeout = 3 * time.Minute
	}
	if n := len(r.socket()); n > maxSocketPath {
		return fmt.Errorf("the path %s has %d bytes, a socket's may have %d: choose a shorter folder", r.socket(), n, maxSocketPath)
	}
	config, err := r.configure()
	if err != nil {
		return err
	}
	if r.address, err = port.Reserve(r.options.Address); err != nil {
		return err
	}
	r.direct = &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket())
	}}
	r.proxy = newProxy(r.address, r.direct)
	if r.process, err = process.Start(process.Host{}, r.command(config)); err != nil {
		return err
	}
	return r.await(ctx)
}

func (r *Registry) socket() string { return filepath.Join(r.options.Dir, "registry.sock") }

// configure writes the configuration and returns its path.
func (r *Registry) configure() (string, error) {
	if err := os.MkdirAll(r.options.Dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(r.options.Dir, "config.yaml")
	// Relative URLs let clients upload through whichever door they came in by.
	text := fmt.Sprintf(`version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  delete: {enabled: true}
  maintenance: {uploadpurging: {enabled: false}}
http: {net: unix, addr: %q, secret: lab, relativeurls: true}
`, filepath.Join(r.options.Dir, "storage"), r.socket())
	return path, os.WriteFile(path, []byte(text), 0o644)
}

func (r *Registry) command(config string) process.Command {
	return process.Command{
		Name: "registry",
		Argv: []string{r.options.Binary, "serve", config},
		// Without this the registry sends its traces to a collector that is not there.
		Env: append(process.CleanEnv(), "OTEL_TRACES_EXPORTER=none"),
		Log: r.options.Log,
	}
}

// await waits until the registry answers and then opens the door.
func (r *Registry) await(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	if err := r.process.WaitReady(waiting, r.ping); err != nil {
		return err
	}
	if r.proxy.current().Refuse {
		return nil
	}
	return r.proxy.open(ctx)
}

func (r *Registry) ping(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://registry/v2/", nil)
	if err != nil {
		return err
	}
	answer, err := r.direct.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the registry answers %s", answer.Status)
	}
	return nil
}

// Addr returns the address where clients come, as host:port, which is also how image references begin.
func (r *Registry) Addr() string { return r.address.String() }

// Direct returns the way to the registry past the door: not counted, not disturbed, not asked for credentials. The host
// of a request does not matter.
func (r *Registry) Direct() http.RoundTripper { return r.direct }

// Process returns the registry's process, for looking at.
func (r *Registry) Process() *process.Process { return r.process }

// Requests returns what clients have asked since the start or the last ResetRequests.
func (r *Registry) Requests() Log { return r.proxy.recorder.log() }

// ResetRequests forgets all requests, those in progress included.
func (r *Registry) ResetRequests() { r.proxy.recorder.reset() }

// Faults returns how the registry misbehaves at present.
func (r *Registry) Faults() Faults { return *r.proxy.current() }

// SetFaults replaces all faults; the zero value ends them.
func (r *Registry) SetFaults(ctx context.Context, f Faults) error {
	r.proxy.setFaults(f)
	if f.Refuse {
		r.proxy.shut()
		return nil
	}
	if !r.process.Running() {
		return nil
	}
	if err := r.proxy.open(ctx); err != nil {
		return fmt.Errorf("opening the registry's door: %w", err)
	}
	return nil
}

// SetAuth replaces the rules about credentials; nil opens all repositories. Tokens given out before are void.
func (r *Registry) SetAuth(auth *Auth) { r.proxy.gate.set(auth) }

// Stop stops the registry: clients are cut off and refused.
func (r *Registry) Stop() error {
	r.proxy.shut()
	return r.process.Stop(process.Grace)
}

// Start starts a stopped registry again, on the same address with the same content.
func (r *Registry) Start(ctx context.Context) error {
	if err := r.process.Restart(); err != nil {
		return err
	}
	return r.await(ctx)
}

// Close ends the registry for good. It may be called again.
func (r *Registry) Close() error {
	var err error
	if r.proxy != nil {
		r.proxy.shut()
	}
	if r.process != nil {
		err = r.process.Kill()
	}
	if r.direct != nil {
		r.direct.CloseIdleConnections()
	}
	if r.address != nil {
		r.address.Close()
	}
	return err
}

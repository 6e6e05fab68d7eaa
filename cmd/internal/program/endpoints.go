package program

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// Endpoints are what a program tells whoever runs it, by plain HTTP: /healthz (restart it
// when this fails), /readyz, /metrics.
type Endpoints struct {
	// Address to listen on, host:port; "" serves nothing.
	Address string
	// Profiling adds /debug/pprof.
	Profiling bool
	// Health and Ready give what is wrong, nil when nothing is.
	Health, Ready func() error
}

// CheckAddress says what is wrong with an Address.
func CheckAddress(address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New(`must be host:port, such as 127.0.0.1:10459, [::1]:10459 or :10459; "" serves nothing`)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("has the port %q, must be a number from 0 (any free one) to 65535", port)
	}
	return nil
}

// Serve listens, and serves until the context ends or stop is called.
func (e *Endpoints) Serve(ctx context.Context) (stop func(), err error) {
	if e.Address == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", e.Address)
	if err != nil {
		return nil, fmt.Errorf("serving health and metrics (choose another --serve-address, or \"\" for none): %w", err)
	}
	klog.FromContext(ctx).Info("Serving /healthz, /readyz and /metrics", "address", listener.Addr().String())
	server := &http.Server{Handler: e.Handler(), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			klog.FromContext(ctx).Error(err, "Serving health and metrics")
		}
	}()
	closing := context.AfterFunc(ctx, func() { _ = server.Close() })
	return func() { closing(); _ = server.Close() }, nil
}

// Handler answers what Serve serves.
func (e *Endpoints) Handler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", answer(e.Health))
	mux.HandleFunc("GET /readyz", answer(e.Ready))
	mux.Handle("GET /metrics", legacyregistry.Handler())
	if e.Profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	}
	return mux
}

func answer(check func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	}
}

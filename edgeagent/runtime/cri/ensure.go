package cri

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/containerd/errdefs"
	api "k8s.io/cri-api/pkg/apis/runtime/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/fetch"
	"edgecache.dev/edgeagent/runtime"
	"edgecache.dev/edgeagent/runtime/lease"
	"edgecache.dev/internal/pause"
)

const (
	// maxAttempts bounds pulls in a row that brought no byte, where that can be seen.
	maxAttempts = 5
	// maxPause bounds the pause between them.
	maxPause = 30 * time.Second
)

// Ensure lets the runtime pull what it does not have.
func (d *Driver) Ensure(ctx context.Context, r runtime.Request, _ func(runtime.Progress)) error {
	if err := r.Check(); err != nil {
		return err
	}
	leave, err := d.pulls.Enter(ctx, r.Digest)
	if err != nil {
		return err
	}
	defer leave()
	err = d.ensure(ctx, r)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("ensuring %s: %w", r.Name, cause)
	}
	return err
}

func (d *Driver) ensure(ctx context.Context, r runtime.Request) error {
	img, _, err := d.status(ctx, r.Name)
	if err != nil {
		return err
	}
	if !img.is(r.Name, r.Digest) {
		err = d.bring(ctx, r)
	}
	if err != nil {
		return err
	}
	return d.keep(ctx, r)
}

// bring has an image pulled that is not there.
func (d *Driver) bring(ctx context.Context, r runtime.Request) error {
	leased, err := d.canLease(ctx)
	if err == nil {
		err = admit(ctx, r)
	}
	if err != nil {
		return err
	}
	if !leased {
		err = d.pull(ctx, r.Name)
	} else {
		err = d.pullLeased(ctx, r)
	}
	if err != nil {
		return err
	}
	return d.compare(ctx, r)
}

// unpackedOfFetched is how much layers grow when they are unpacked, at a guess.
const unpackedOfFetched = 2.5

// admit asks whether an image may come in, by the size that the wish gives: before the
// runtime has pulled it CRI tells nothing of an image. One of unknown size is let in, and
// watched like others.
func admit(ctx context.Context, r runtime.Request) error {
	if r.Admit == nil {
		return nil
	}
	return r.Admit(ctx, runtime.Need{Fetch: max(r.Size, 1), Unpack: int64(unpackedOfFetched * float64(r.Size))})
}

// compare says whether what was pulled is what was asked for.
func (d *Driver) compare(ctx context.Context, r runtime.Request) error {
	img, ok, err := d.status(ctx, r.Name)
	switch {
	case err != nil:
		return err
	case !ok:
		return runtime.Failed("pulling "+r.Name.String(), errors.New("the runtime does not have the image that it pulled"))
	case img.is(r.Name, r.Digest):
		return nil
	}
	return runtime.NewTagMoved(r.Name, img.digestOf(r.Name), r.Digest)
}

// pull asks the runtime to pull, with one login after the other for as long as they are
// refused. The error is then that of the first one, which is the one that is meant to be
// used.
func (d *Driver) pull(ctx context.Context, name imageref.Reference) error {
	logins, err := d.logins(name)
	if err != nil {
		return &runtime.Error{Reason: fetch.Unauthorized, Err: fmt.Errorf("reading the credentials for %s: %w", name, err)}
	}
	var first error
	for _, l := range logins {
		err := d.pullAs(ctx, name, l)
		if err == nil || !refused(err) {
			return err
		}
		first = cmp.Or(first, err)
	}
	return first
}

// refused says whether another login may be answered otherwise. Some registries say of what
// somebody may not see that it is not there.
func refused(err error) bool {
	reason := runtime.ReasonOf(err)
	return reason == fetch.Unauthorized || reason == fetch.NotFound
}

func (d *Driver) pullAs(ctx context.Context, name imageref.Reference, l fetch.Login) error {
	r := &api.PullImageRequest{Image: &api.ImageSpec{Image: name.String()}, Auth: auth(name, l)}
	if _, err := d.images.PullImage(ctx, r); err != nil {
		basic := base64.StdEncoding.EncodeToString([]byte(l.User + ":" + l.Secret))
		return classify("pulling "+name.String(), err, basic, l.Secret, l.Token)
	}
	return nil
}

// logins gives at least one.
func (d *Driver) logins(name imageref.Reference) ([]fetch.Login, error) {
	var all []fetch.Login
	var err error
	if d.options.Credentials != nil {
		all, err = d.options.Credentials(name, name.Registry())
	}
	if len(all) > 0 {
		return all, nil
	}
	return []fetch.Login{{}}, err
}

// auth gives a login in CRI's form. The server is named, so that mirrors do not get what is
// meant for the registry.
func auth(name imageref.Reference, l fetch.Login) *api.AuthConfig {
	if l.Secret == "" && l.Token == "" {
		return nil
	}
	host := name.Registry()
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	auth := &api.AuthConfig{Username: l.User, RegistryToken: l.Token, ServerAddress: "https://" + host}
	if l.User == "" {
		auth.IdentityToken = l.Secret
	} else {
		auth.Password = l.Secret
	}
	return auth
}

// pullLeased pulls under the lease of the digest, again for as long as attempts bring
// bytes. The lease stays when it fails, so that the next attempt goes on from there.
func (d *Driver) pullLeased(ctx context.Context, r runtime.Request) error {
	ctx = inNamespace(ctx)
	l, err := d.leases.Take(ctx, r.Digest)
	if err != nil {
		return runtime.Failed("pulling "+r.Name.String(), err)
	}
	for failures := 0; ; {
		before := d.stored(ctx, l)
		if err = d.pullOnce(ctx, l, r.Name); err == nil {
			break
		}
		if failures++; d.stored(ctx, l) > before {
			failures = 0
		}
		if runtime.ReasonOf(err) == fetch.DigestMismatch {
			d.abort(ctx, l)
		}
		if failures >= maxAttempts || !worthRetry(err) || !breather(ctx, failures) {
			return err
		}
	}
	if err := l.Release(ctx); err != nil {
		return runtime.Failed("pulling "+r.Name.String(), err)
	}
	return nil
}

// pullOnce is one pull, which must end before the lease can.
func (d *Driver) pullOnce(ctx context.Context, l *lease.Lease, name imageref.Reference) error {
	leased, done, err := l.Use(ctx)
	if err != nil {
		return runtime.Failed("pulling "+name.String(), err)
	}
	defer done()
	leased, cancel := context.WithTimeout(leased, d.options.LeaseTTL/3)
	defer cancel()
	err = d.pull(leased, name)
	if runtime.ReasonOf(err) == fetch.RuntimeError && l.IsGone(ctx) {
		return errors.Join(err, l.Renew(ctx))
	}
	return err
}

// worthRetry says whether to pull again at once: the network may come back in seconds.
func worthRetry(err error) bool { return runtime.ReasonOf(err) == fetch.NetworkError }

// breather waits between attempts. It says false when ctx ends first.
func breather(ctx context.Context, failures int) bool {
	d := min(time.Second<<min(failures, 6), maxPause)
	return pause.For(ctx, d/2+rand.N(d/2))
}

// stored gives how many bytes a lease holds, as far as that can be found out.
func (d *Driver) stored(ctx context.Context, l *lease.Lease) (n int64) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	held, err := l.Holds(ctx)
	if err != nil {
		return 0
	}
	for _, ref := range held.Ingests {
		if st, err := d.content.Status(ctx, ref); err == nil {
			n += st.Offset
		}
	}
	for _, dg := range held.Content {
		if info, err := d.content.Info(ctx, dg); err == nil {
			n += info.Size
		}
	}
	return n
}

// abort throws away what a lease holds of unfinished blobs: one of them has wrong bytes,
// and the runtime would build on them for ever.
func (d *Driver) abort(ctx context.Context, l *lease.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	held, err := l.Holds(ctx)
	if err != nil {
		return // and the next attempt fails in the same way, and tries this again
	}
	for _, ref := range held.Ingests {
		if err := d.content.Abort(ctx, ref); err != nil && !errdefs.IsNotFound(err) {
			return
		}
	}
}

package resolve

import (
	"context"
	"fmt"
	"slices"
	"time"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

// question is what is asked of a repository through a session.
type question[T any] func(context.Context, *access.Session) (T, error)

// Query is what a caller wants to know about.
type Query struct {
	Reference imageref.Reference
	// Keychain holds the credentials to try.
	Keychain keychain.Keychain
	// First is the host of an endpoint to ask before the others: the one that had the
	// image, when its parts are asked for. Empty keeps the order.
	First string
	// Object is what is asked for, for the URL of an error; the zero value is what the
	// reference names.
	Object access.Object
	// Patient lifts the settings' Timeout, for questions that take as long as they take.
	Patient bool
}

// Ask asks a question of its own about an image: at each endpoint in turn, with each
// credential that matches, until one gets an answer. What the question returns for an
// error is judged as that of Resolve is. The error is an *Error.
func Ask[T any](ctx context.Context, r *Resolver, q Query, ask func(context.Context, *access.Session) (T, error)) (T, error) {
	return lookUp(ctx, r, q, ask)
}

// attempt is one endpoint asked for one reference.
type attempt struct {
	// parts is how many endpoints are left, this one included.
	parts int

	ref    imageref.Reference
	object access.Object // zero for what ref names
	at     access.Endpoint
	users  []keychain.Credential
	// used is the credential of the last question.
	used keychain.Credential
}

// asked is the object that a question is about.
func (a attempt) asked() access.Object {
	if a.object != (access.Object{}) {
		return a.object
	}
	return access.Object{Kind: access.Manifests, ID: identifier(a.ref)}
}

// lookUp asks each endpoint in turn until one answers, within the settings' Timeout.
func lookUp[T any](ctx context.Context, r *Resolver, q Query, ask question[T]) (T, error) {
	var none T
	if q.Reference.IsZero() {
		return none, judgement{v1alpha1.VerdictNotPullable, v1alpha1.ReasonInvalidReference, "", "write it as registry.example/app:v1"}.
			because("reference is empty")
	}
	if !q.Patient {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.network.Settings().Timeout)
		defer cancel()
	}
	endpoints := q.endpoints(r.network)
	var failed []*Error
	for i, at := range endpoints {
		a := attempt{parts: len(endpoints) - i, ref: q.Reference, object: q.Object, at: at, users: q.Keychain.ForRepository(at.Name())}
		got, failure := askWithin(ctx, r.network, a, ask)
		if failure == nil {
			return got, nil
		}
		failure.mirror = at.Mirrors != ""
		failed = append(failed, failure)
		if failure.Reason == v1alpha1.ReasonDigestMismatch || ctx.Err() != nil {
			break
		}
	}
	return none, together(failed)
}

// endpoints gives the places to ask, in order.
func (q Query) endpoints(n *access.Network) []access.Endpoint {
	all := n.Endpoints(q.Reference)
	if i := slices.IndexFunc(all, func(e access.Endpoint) bool { return e.Host == q.First }); i > 0 {
		first := all[i]
		all = slices.Insert(slices.Delete(all, i, i+1), 0, first)
	}
	return all
}

// askWithin gives an endpoint an equal part of the time that is left, so that a dead
// mirror leaves the endpoints after it theirs.
func askWithin[T any](ctx context.Context, n *access.Network, a attempt, ask question[T]) (T, *Error) {
	if end, ok := ctx.Deadline(); ok && a.parts > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(a.parts))
		defer cancel()
	}
	return askAll(ctx, n, a, ask)
}

// askAll asks an endpoint with each credential until one gets an answer. The error is
// the one that says most.
func askAll[T any](ctx context.Context, n *access.Network, a attempt, ask question[T]) (got T, worst *Error) {
	for _, user := range order(n, a) {
		a.used = user
		session, err := n.Open(ctx, a.at, user)
		if err == nil {
			if got, err = ask(ctx, session); err == nil {
				return got, nil
			}
		}
		failure := explain(err, a)
		worst = saysMore(worst, failure)
		if failure.Reason == v1alpha1.ReasonUnauthorized || failure.Reason == v1alpha1.ReasonNotFound && len(a.users) > 1 {
			n.Forget(a.at, user) // so that it is not tried before the others next time
		}
		if !anotherUserMayHelp(failure.Reason) {
			break
		}
	}
	return got, worst
}

// order puts the credentials first with which the repository was opened before: a
// refresh then costs no refused log-in. Within the two groups the order stays.
func order(n *access.Network, a attempt) []keychain.Credential {
	if len(a.users) == 0 {
		return []keychain.Credential{{}} // anonymous
	}
	var known, others []keychain.Credential
	for _, user := range a.users {
		if n.Known(a.at, user) {
			known = append(known, user)
		} else {
			others = append(others, user)
		}
	}
	return append(known, others...)
}

// anotherUserMayHelp says after which failures the next credential is tried: refused, out
// of its quota, or shown a repository as absent that it may not see.
func anotherUserMayHelp(reason string) bool {
	switch reason {
	case v1alpha1.ReasonUnauthorized, v1alpha1.ReasonRateLimited, v1alpha1.ReasonNotFound:
		return true
	}
	return false
}

// saysMore picks between the failures of two credentials: one that may pass comes first,
// since it might have succeeded; "not found" comes before "refused", since that
// credential was accepted.
func saysMore(a, b *Error) *Error {
	rank := func(e *Error) int {
		switch {
		case e == nil:
			return 0
		case e.Reason == v1alpha1.ReasonUnauthorized:
			return 1
		case e.Verdict == v1alpha1.VerdictNotPullable:
			return 2
		}
		return 3
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// together gives the failure of the registry itself where it was asked, else the last,
// and names those of the mirrors.
func together(failed []*Error) *Error {
	verdict := failed[len(failed)-1]
	if i := slices.IndexFunc(failed, func(e *Error) bool { return !e.mirror }); i >= 0 {
		verdict = failed[i]
	}
	for _, e := range failed {
		if e != verdict {
			verdict.Problem = cut(fmt.Sprintf("%s; mirror %s: %s", verdict.Problem, e.Host, e.Reason))
			verdict.Message = cut(fmt.Sprintf("%s; mirror %s: %s", verdict.Message, e.Host, e.Reason))
		}
	}
	return verdict
}

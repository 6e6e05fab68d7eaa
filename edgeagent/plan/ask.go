package plan

import (
	"time"

	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/edgeagent/store"
)

// Ask is a tag that the node resolves.
type Ask struct {
	Ref imageref.Reference
	// Wished is the digest that is wished now, "" while there is none.
	Wished digest.Digest
	// Token is the refresh token that an answer is for.
	Token string
	// Now says that an answer is owed: no digest is known, or the token is another one than
	// was answered, or was met together with the digest.
	Now bool
	// Every is how often the registry is asked besides; 0 is never.
	Every time.Duration
}

// ask notes a tag that is this node's to resolve.
func (p *planner) ask(w *wished, said *store.Resolved) {
	if !w.asks {
		return
	}
	none := said == nil || said.Digest == ""
	p.steps.Asks = append(p.steps.Asks, Ask{
		Ref: w.Ref, Wished: w.Digest, Token: w.token, Every: w.every,
		Now: w.Digest == "" && none || w.token != "" && (said == nil || said.RefreshToken != w.token),
	})
}

// Answer gives what is to be remembered of a registry's answer, and false when it says
// nothing new: a registry that is asked from time to time mostly says what is known.
func (a *Ask) Answer(before *store.Resolved, found digest.Digest) (*store.Resolved, bool) {
	after := &store.Resolved{
		Digest: found.String(), RefreshToken: a.Token, Wished: a.Wished.String(), Newer: a.Wished != "" && found != a.Wished,
	}
	if !a.Now && !after.Newer && (before == nil || before.Digest == "") {
		return nil, false
	}
	return after, !sameAnswer(before, after)
}

// aged gives an answer as it is seen now. One that was given while another digest was
// wished is not newer than the present one; where it differs it is outdated, unless it was
// given before any digest was wished: then the registry had two answers for the site.
// A node that comes to a digest without having said anything takes the token that stands
// there for answered: it was for those that were there before.
func aged(said *store.Resolved, w *wished) *store.Resolved {
	wish := w.Digest.String()
	switch {
	case !w.asks:
		return nil
	case said == nil && wish != "":
		return &store.Resolved{RefreshToken: w.token, Wished: wish}
	case said == nil || said.Wished == wish:
		return said
	}
	after := *said
	after.Wished, after.Newer = wish, false
	if said.Wished != "" && after.Digest != wish {
		after.Digest = ""
	}
	return &after
}

func sameAnswer(a, b *store.Resolved) bool {
	return a == b || a != nil && b != nil && *a == *b
}

package fetch

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Login is one credential of a registry; the zero value is the anonymous user. Printing it
// in any way shows nothing of it. fmt cannot see to that where it stands in an unexported
// field.
type Login struct {
	// User and Secret are a name and a password. Without User, Secret is a refresh token.
	User, Secret string
	// Token, where set, is what the registry itself takes, without asking a token server.
	Token string
}

// redacted is printed in place of every login: also the user's name may be a token.
const redacted = "[redacted login]"

// String shows nothing.
func (l Login) String() string { return redacted }

// GoString shows nothing.
func (l Login) GoString() string { return redacted }

// Format prints String for every verb.
func (l Login) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON shows nothing.
func (l Login) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// logins are the credentials for one host, which are tried in turn.
type logins struct {
	find func() ([]Login, error)

	mu      sync.Mutex // guards what follows
	known   bool       // all and err were found
	all     []Login    // not empty when known
	err     error
	turn    int  // of all, the one in use
	offered bool // its Token, which the registry has asked for
}

// current gives the login whose turn it is.
func (l *logins) current() (Login, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read()
	return l.all[l.turn], l.err
}

// read finds the logins if they are not known, under mu. Where nothing but an error is
// found it stands for the only one.
func (l *logins) read() {
	if l.known {
		return
	}
	all, err := l.find()
	if len(all) > 0 {
		err = nil
	} else {
		all = []Login{{}}
	}
	if !slices.Equal(all, l.all) {
		l.turn, l.offered = 0, false
	}
	l.known, l.all, l.err = true, all, err
}

// forget lets the logins be found anew: they may have been replaced since a pull began that
// has lasted for days. The turn stays while they are the same.
func (l *logins) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = false
}

// at gives whose turn it is.
func (l *logins) at() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turn
}

// next gives the turn to another login after the one of a turn was refused. It says whether
// there is one, also when somebody else called it meanwhile.
func (l *logins) next(refused int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turn == refused {
		if l.turn+1 >= len(l.all) {
			return false
		}
		l.turn, l.offered = l.turn+1, false
	}
	return true
}

// offer says whether the login has a Token that was not sent yet, which is sent from now on.
func (l *logins) offer() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read()
	first := !l.offered && l.all[l.turn].Token != ""
	l.offered = l.offered || first
	return first
}

// token gives the Token to send, "" for none.
func (l *logins) token() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.offered {
		return ""
	}
	return l.all[l.turn].Token
}

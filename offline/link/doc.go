// Package link knows how the links to a node's peers are: its API server, and each
// registry. What it knows comes from traffic that happens anyway; it sends nothing itself.
//
// It owns the judgement, when a link is Up, Down or Flapping, and a short history of it. It
// decides nothing about what to do then, keeps nothing on disk, and has no clock of its
// own but time.Now.
//
// A link that was never used is Unknown. One answer, of whatever kind, makes it Up. It is
// Down when several connections in a row were not made or broke, over a while, with no
// byte in between; or at once when somebody gave up after trying for long. One that goes
// down and comes back again and again is Flapping: then only a long silence is Down, so that
// what comes through in the good moments is used, and a bad link is not news each minute.
//
// Invariants:
//
//  1. State changes on observations only. A link on which nothing happens stays what it is.
//  2. Since is when the present state began: for Down the first failure of the row.
//  3. History is bounded: 32 changes per peer, 64 peers, those that were used last.
//
// Failure model: clocks jump. Spans that come out negative count as none; what was stored
// before a restart is taken as it is, and the first observation puts it right.
//
// A Book may be used by several goroutines at once; a Link by one.
package link

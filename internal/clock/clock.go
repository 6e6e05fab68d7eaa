// Package clock tells a clock that was set from one that was not: boxes without a
// battery-backed clock begin at 1970 or at the date of their image, and learn the time when
// they find a network. A time that such a clock gave says nothing of how long ago it was.
package clock

import "time"

// floor is a second of which every clock that was ever set is past: 2026-01-01.
const floor = 1767225600

// IsSet says whether a time is from a clock that was set since the node was switched on.
func IsSet(t time.Time) bool { return t.Unix() >= floor }

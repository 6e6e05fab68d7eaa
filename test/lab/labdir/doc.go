// Package labdir gives each lab a folder and an identity, and clears away what a dead lab has left.
//
// It owns the list of labs of a user, <temporary folder>/edgecache-labs-<uid>: one file per lab, locked (flock) by the
// lab's process for life. The kernel drops the lock when the process ends, however it ends, so a file without a lock is a
// dead lab, and only then may its folder and control groups be removed.
//
// It never removes a folder that it did not make.
//
// Three things clear a lab away: its own Close; its janitor, a process of its own that does so when the lab's process was
// killed; and [Sweep] at the start of the next lab, should the janitor have been killed too.
package labdir

// Package cgroup gives the lab's machines control groups of their own and removes them.
//
// Everything else of a lab ends with its processes: namespaces, mounts, network devices. Control groups are the
// exception: they are folders of the machine's hierarchies, and ended processes leave them empty but there. So all groups
// of a lab lie below one with the lab's name: [Make] makes a machine's group, [Move] puts the machine's first process into
// it, [Mount], called inside, makes it look like the root of all groups, and [Remove] removes it with all below it.
//
// It works with one unified hierarchy (v2), with separate ones per controller (v1) and with both. It never touches a
// group outside the named one, except that controllers are passed on to it, and never ends a process.
package cgroup

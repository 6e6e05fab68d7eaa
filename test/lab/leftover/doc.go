// Package leftover looks for what a lab has left on the machine after its end.
//
// It owns the answer to "is it really gone?" for the tests of that promise: processes, mounts (in any mount namespace),
// network devices, control groups, files. It looks at the machine itself and asks no other part of the lab.
package leftover

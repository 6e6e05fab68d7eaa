// Package powercut makes disks whose power can be cut at any instant.
//
// A [Disk] is a file system (ext4 or XFS) in an image file that lies on an XFS of its own, both behind loop devices. [Disk.Cut]
// clones the image file in one step of the outer XFS (FICLONE): what the inner file system had handed to its device by then,
// and nothing of what was still in memory. [Image.Mount] mounts such a clone, as a machine does after a power cut: the file
// system's journal is replayed, and what was not synced may be gone.
//
// It owns the image files, loop devices and mounts, below <temporary folder>/edgecache-powercut-<uid>, one folder per disk,
// locked (flock) for life. They go with the test; those of a process that was killed go when the next disk is made.
//
// What it does not show: a device that acknowledges a flush which it did not do, or that reorders writes in a cache of its own.
//
// It needs root, loop devices, and mkfs.xfs (Debian's package xfsprogs). Where they are missing, [New] leaves the test out
// with the reason.
package powercut

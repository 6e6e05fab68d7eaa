// Package unpacked tells whether the directory of an unpacked layer is what the layer's tar
// says: a power cut leaves files of no length, or of zeros, in snapshots that were not synced
// to disk.
//
// It reads and changes nothing, and follows paths as containerd does when it unpacks: within
// the directory, links in the path included.
//
// Compared are names, kinds, contents, targets of links and deletions as overlayfs marks them.
// Owners, modes, times and extended attributes are not: they are written with the inode,
// which a file that is there has.
package unpacked

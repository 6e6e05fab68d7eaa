// Package reserve says how many bytes of the image file system pulls leave free.
//
// It owns one number and where it comes from: what the user set, else what keeps the node
// clear of the kubelet's image garbage collection and of its eviction of pods. It never
// measures a file system and never frees anything.
//
// Failure model: a kubelet configuration that is not there is one with the kubelet's
// defaults. One that cannot be read or understood is an error, and the defaults hold.
package reserve

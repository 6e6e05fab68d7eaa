// Package testimage makes container images out of nothing.
//
// It owns the content of the images that the lab's tests pull and run: layers of random bytes of any size, the same for
// the same seed; images and multi-platform indexes of them; and two runnable programs, pause and hello, compiled on the
// spot, so that no test pulls anything from outside.
//
// It never writes to disk and keeps no layer in memory: a layer's bytes are made anew, from its seed, each time they are
// read, so images of many gigabytes cost only time.
//
// The digests are the same in every run of one Go version; another one's gzip may give others, so tests must not hold
// them as constants. Random bytes do not compress: a layer's size in the registry is about its size on disk.
package testimage

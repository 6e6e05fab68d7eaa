//go:build !race

package toolchain

// RaceEnabled tells whether this program was itself built with the race detector, so that what it builds and runs can
// follow suit.
const RaceEnabled = false

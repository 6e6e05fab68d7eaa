// Package intact has what a node holds read through after it was switched off by its plug,
// and what is damaged given up, so that it is brought anew.
//
// It owns which images are to be read and how far that came, and the images that are known to
// be damaged. A driver reads and discards (runtime.Verifier); the agent brings.
//
// Invariants:
//
//  1. A boot counts as unclean when the boot ID is another one than before, and the agent was
//     not told to stop in the boot before. Where nothing is known of that, what was held is
//     read, too: reading is cheap, a broken image is not.
//  2. Nothing waits for it: what is there counts as held until it is found damaged. Then it
//     counts as not held, also after a restart, until it was given up.
//  3. One image at a time, the newest first, as those are the ones that a cut hits, at a
//     bounded rate. Images that came after the boot are not read: they came with sync.
//  4. How far it came survives restarts. It is written at most once a minute, and when
//     something was found.
//  5. When all is read there is no timer and no goroutine left.
//
// Failure model: a runtime that is away is waited for, however long that takes. An image that
// cannot be read although it answers is tried again a few times and then left out with a line
// in the log. What containers use cannot be given up;
// it is tried again every few minutes, and by each attempt to bring the image. A store that
// cannot be written costs that images are read again after the next restart.
package intact

// Package evict decides which images to give up for the room that another one needs. It is
// pure: what could be given up and what it weighs goes in, what goes comes out.
//
// Invariants:
//
//  1. Nothing goes unless what goes makes enough room.
//  2. A wished image goes only for one of a higher priority. So a row of evictions ends:
//     each puts an image in the place of less important ones.
//  3. The order is: earlier digests that need not be kept, earlier digests that are kept,
//     wished images; among equals the least priority first, then what was used longest ago.
//  4. Nothing goes without which there would still be room enough.
//
// What a container uses, the sandbox image, and what edgecache does not look after are not
// offered to this package (package plan).
package evict

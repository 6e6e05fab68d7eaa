package evict

// Room is what there is on the image file system, in bytes.
type Room struct {
	Capacity  int64
	Available int64
	// Reserve stays free.
	Reserve int64
	// Claimed is what images that are coming in will still take.
	Claimed int64
}

// maxSlack bounds Slack, in bytes.
const maxSlack = 64 << 20

// Slack is kept free besides the reserve: what is written between two looks must not touch
// that. A 64th of the capacity, at most 64 MiB.
func (r Room) Slack() int64 { return min(r.Capacity/64, maxSlack) }

// Free is what one more image may take; negative when the reserve is touched.
func (r Room) Free() int64 { return r.Available - r.Claimed - r.Reserve - r.Slack() }

// Touched says whether a pull has to stop lest it touches the reserve: half of the slack is
// used up.
func (r Room) Touched() bool { return r.Available < r.Reserve+r.Slack()/2 }

// Short is by how much the reserve is touched.
func (r Room) Short() int64 { return max(0, r.Reserve-r.Available) }

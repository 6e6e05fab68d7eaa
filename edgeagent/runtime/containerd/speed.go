package containerd

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// minMeasured is the least that tells how fast unpacking is: of little, most of the time
	// goes into calls.
	minMeasured = 1 << 20
	// speedStep is by how much of itself the speed must have changed to be told.
	speedStep = 4
)

// unpacked takes note of how long unpacking layers took.
func (d *Driver) unpacked(layers []ocispec.Descriptor, took time.Duration) {
	var bytes int64
	for _, l := range layers {
		bytes += l.Size
	}
	if bytes < minMeasured || took <= 0 {
		return
	}
	now := int64(float64(bytes) / took.Seconds())
	d.mu.Lock()
	defer d.mu.Unlock()
	if before := d.unpackSpeed; before != 0 {
		if now = (now + before) / 2; max(now-before, before-now) < before/speedStep {
			return
		}
	}
	d.unpackSpeed = now
}

func (d *Driver) speed() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unpackSpeed
}

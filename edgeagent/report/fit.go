package report

import (
	"encoding/json"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/brief"
)

const (
	// maxStatusBytes is the status's share of the 1 MiB that a NodeImageCache may have:
	// 1,000 failing images with names of 255 characters take 480 KB without messages.
	maxStatusBytes = 580 << 10
	// maxMessage is the longest message of one image, in bytes, as the CRD allows.
	maxMessage = 1024
	// someMessage is what is left of messages when they first give way.
	someMessage = 120
)

// fit brings a status within its share. What gives way, in this order: the length of
// messages, other images, the messages.
func fit(s *v1alpha1.NodeImageCacheStatus) {
	cutMessages(s, maxMessage)
	steps := []func(){
		func() { cutMessages(s, someMessage) },
		func() { s.OtherImages = nil },
		func() { cutMessages(s, 0) },
	}
	for _, giveWay := range steps {
		if size(s) <= maxStatusBytes {
			return
		}
		giveWay()
	}
}

func cutMessages(s *v1alpha1.NodeImageCacheStatus, n int) {
	for i := range s.Images {
		s.Images[i].Message = brief.Text(s.Images[i].Message, n)
	}
}

// Cut shortens a message to what a status has room for.
func Cut(message string) string { return brief.Text(message, maxMessage) }

func size(s *v1alpha1.NodeImageCacheStatus) int {
	b, err := json.Marshal(s)
	if err != nil {
		return 0 // cannot happen: the type has no cycles, channels or NaNs
	}
	return len(b)
}

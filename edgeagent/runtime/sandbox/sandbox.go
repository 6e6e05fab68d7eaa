package sandbox

import (
	"strings"
	"sync"
	"time"

	"edgecache.dev/api/imageref"
)

// Memory is what is known of a runtime's sandbox image. The zero value is nothing. It is
// safe for concurrent use.
type Memory struct {
	mu    sync.Mutex // guards what follows
	image imageref.Reference
	since time.Time // of the sandbox that told; zero when the configuration did
	told  bool      // the configuration tells
}

// Image gives the sandbox image, zero while it is not known.
func (m *Memory) Image() imageref.Reference {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image
}

// Configured takes in what the runtime says that it is configured with, zero when it does
// not tell.
func (m *Memory) Configured(image imageref.Reference) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.told = !image.IsZero(); m.told {
		m.image, m.since = image, time.Time{}
	}
}

// Told says whether the configuration told, when it was asked last.
func (m *Memory) Told() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told
}

// Used takes in what a sandbox was made of, and when.
func (m *Memory) Used(name string, at time.Time) {
	image := Parse(name)
	if image.IsZero() || !m.Newer(at) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.image, m.since = image, at
}

// Newer says whether a sandbox is newer than those that were seen.
func (m *Memory) Newer(at time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return at.After(m.since)
}

// Parse reads the name of an image as runtimes give it, zero when it is none.
func Parse(name string) imageref.Reference {
	if strings.HasPrefix(name, "sha256:") {
		return imageref.Reference{} // an ID, which would parse as a repository with a tag
	}
	ref, err := imageref.Parse(name)
	if err != nil {
		return imageref.Reference{}
	}
	return ref
}

package registrycheck

import (
	"time"

	"github.com/containerd/platforms"

	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
)

// Options say how checks are made. The zero value is ready for use.
type Options struct {
	// Settings say how registries are reached. Where MaxRequestsPerHost is 0 it is
	// DefaultMaxRequestsPerHost of this package.
	Settings access.Settings
	// Access changes how they are reached: a dial guard, the User-Agent.
	Access []access.Option
	// Runtime is what the nodes run. Empty is Containerd.
	Runtime Runtime
	// MaxWait is how long one image may wait in all because a registry asks to come back
	// later; after that it is Inconclusive. 0 waits for nothing.
	MaxWait time.Duration
	// Images is how many images are checked at a time. 0 means 32.
	Images int
}

// Defaults of Options.
const (
	// DefaultMaxRequestsPerHost is higher than that of package access: a check is a
	// short burst, not a background refresh.
	DefaultMaxRequestsPerHost = 32
	defaultImages             = 32
)

// Request asks about one image.
type Request struct {
	// Reference is what a user wrote: "nginx:1.27". What cannot be a reference gives a
	// Result, not an error.
	Reference string
	// Source says where it was written, such as deploy.yaml:12. It is given back.
	Source string
	// Platforms are those of the nodes, by containerd's rules (a linux/arm/v8 node runs
	// v7). None means every Linux platform that the image has.
	Platforms []platforms.Platform
	// Keychain holds the credentials. All that match are tried, in order; none of them
	// means anonymously.
	Keychain keychain.Keychain
	// Full downloads every byte and verifies it, instead of asking whether it is there.
	Full bool
	// Signatures asks besides what signs the image: one to three requests.
	Signatures bool
}

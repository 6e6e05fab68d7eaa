package lock

import (
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck"
)

// Drift is one difference between a lock and a check.
type Drift struct {
	Reference string `json:"reference"`
	// Platform is set where only that differs.
	Platform string `json:"platform,omitempty"`
	// Locked and Now are digests; Now is empty where there is nothing any more or nothing
	// was found out, Locked where the lock does not know it.
	Locked string `json:"locked,omitempty"`
	Now    string `json:"now,omitempty"`
	// Message says what the difference is.
	Message string `json:"message"`
}

// String gives one line.
func (d Drift) String() string {
	if d.Platform != "" {
		return d.Reference + " " + d.Platform + ": " + d.Message
	}
	return d.Reference + ": " + d.Message
}

// Verify says in what a check differs from the lock: tags that moved, images and platforms
// that are gone or that the lock does not know. Images of the lock that were not checked do not
// count, nor does what was not found out: its own verdict says so.
func (f File) Verify(results []registrycheck.Result) []Drift {
	var all []Drift
	for _, r := range results {
		if r.Verdict == registrycheck.Inconclusive && r.Digest == "" {
			continue
		}
		all = append(all, f.verify(r)...)
	}
	return all
}

func (f File) verify(r registrycheck.Result) []Drift {
	d := Drift{Reference: r.Reference, Now: r.Digest}
	locked, ok := f.find(r.Reference)
	switch {
	case !ok:
		d.Message = "is not in the lock"
	case r.Digest == "":
		d.Locked, d.Message = locked.Digest, "cannot be pulled any more: "+string(r.Reason)
	case r.Digest != locked.Digest:
		d.Locked, d.Message = locked.Digest, fmt.Sprintf("stood for %s and stands for %s now", locked.Digest, r.Digest)
	default:
		return locked.verify(r)
	}
	return []Drift{d}
}

// verify compares platforms, which a digest fixes unless others were asked for.
func (i Image) verify(r registrycheck.Result) []Drift {
	var all []Drift
	for _, p := range r.Platforms {
		d := Drift{Reference: r.Reference, Platform: p.Platform, Now: p.Digest}
		locked, ok := i.platform(p.Platform)
		switch {
		case !ok:
			d.Message = "is not in the lock"
		case p.Digest == "" && p.Verdict == registrycheck.NotPullable:
			d.Locked, d.Message = locked.Digest, "cannot be pulled any more: "+string(p.Reason)
		case p.Digest != "" && p.Digest != locked.Digest:
			d.Locked, d.Message = locked.Digest, fmt.Sprintf("was %s and is %s now", locked.Digest, p.Digest)
		default:
			continue
		}
		all = append(all, d)
	}
	return all
}

func (f File) find(reference string) (Image, bool) {
	name, err := canonical(reference)
	i := slices.IndexFunc(f.Images, func(i Image) bool { return i.Reference == name })
	if err != nil || i < 0 {
		return Image{}, false
	}
	return f.Images[i], true
}

func (i Image) platform(name string) (Platform, bool) {
	n := slices.IndexFunc(i.Platforms, func(p Platform) bool { return normal(p.Platform) == normal(name) })
	if n < 0 {
		return Platform{}, false
	}
	return i.Platforms[n], true
}

// normal gives the one spelling of a platform: linux/arm64/v8 is linux/arm64.
func normal(name string) string {
	p, err := platforms.Parse(name)
	if err != nil {
		return name
	}
	return platforms.Format(platforms.Normalize(p))
}

// Download is what nodes of one kind fetch for the images of a check.
type Download struct {
	// Group names the nodes: by their platform.
	Group string `json:"group"`
	// Images is how many images they run that the lock does not have in this form.
	Images int `json:"images"`
	// Layers is how many layers each node fetches, and Bytes how much that is, with
	// manifests and configurations.
	Layers int   `json:"layers"`
	Bytes  int64 `json:"bytes"`
}

// Changes adds up what a node must download for the platforms of images that it will run,
// when it has what the lock has: every distinct layer that no image of the lock has for any
// platform that the node runs. what are those platforms, one for each image.
func (f File) Changes(what []registrycheck.Platform) Download {
	layers, manifests := f.held(what)
	var d Download
	for _, p := range what {
		if p.Digest == "" || manifests[p.Digest] {
			continue
		}
		manifests[p.Digest] = true
		d.Images++
		d.Bytes += p.Size - distinct(p.Layers)
		for _, l := range p.Layers {
			if !layers[l.Digest] {
				layers[l.Digest] = true
				d.Layers++
				d.Bytes += l.Size
			}
		}
	}
	return d
}

// held gives what nodes have of the lock: the digests of layers and of manifests.
func (f File) held(of []registrycheck.Platform) (layers, manifests map[string]bool) {
	runs := map[string]bool{}
	for _, p := range of {
		runs[normal(p.Platform)] = true
	}
	layers, manifests = map[string]bool{}, map[string]bool{}
	for _, image := range f.Images {
		for _, p := range image.Platforms {
			if !runs[normal(p.Platform)] {
				continue
			}
			manifests[p.Digest] = true
			for _, l := range p.Layers {
				layers[l.Digest] = true
			}
		}
	}
	return layers, manifests
}

// distinct adds up layers, each once.
func distinct(layers []registrycheck.Layer) int64 {
	seen, sum := map[string]bool{}, int64(0)
	for _, l := range layers {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			sum += l.Size
		}
	}
	return sum
}

// Pinned gives the repository with the digest that the reference stood for.
func (i Image) Pinned() (string, error) {
	ref, err := imageref.Parse(i.Reference)
	if err != nil {
		return "", fmt.Errorf("image %q: %w", i.Reference, err)
	}
	return ref.WithDigest(digest.Digest(i.Digest)).String(), nil
}

// For gives the platforms that were checked.
func (i Image) For() []platforms.Platform {
	var all []platforms.Platform
	for _, p := range i.Platforms {
		if parsed, err := platforms.Parse(p.Platform); err == nil { // what was validated is one
			all = append(all, parsed)
		}
	}
	return all
}

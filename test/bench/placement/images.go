package placement

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
)

// Architectures of nodes.
const (
	amd64 = "amd64"
	arm64 = "arm64"
)

// registryHost is where all images come from.
const registryHost = "registry.example"

const megabyte = 1_000_000

// layer is one compressed layer.
type layer struct {
	digest string
	bytes  int64
}

// image is one version of one application, for all architectures.
type image struct {
	repository, tag string
	digest          string
	layers          map[string][]layer // by architecture, base first
}

func (i *image) name() string { return i.repository + ":" + i.tag }

// bytes is what a node without any layer of it downloads.
func (i *image) bytes(arch string) (sum int64) {
	for _, l := range i.layers[arch] {
		sum += l.bytes
	}
	return sum
}

// mint makes digests that differ from seed to seed.
func mint(seed uint64, what string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%s", seed, what))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// catalog is what teams build: applications on few runtimes on few bases.
type catalog struct {
	seed     uint64
	rng      *rand.Rand
	runtimes [][2]part // base and runtime, shared between applications
}

// part is a layer before it has an architecture.
type part struct {
	name  string
	bytes int64
}

func newCatalog(seed uint64, rng *rand.Rand) *catalog {
	c := &catalog{seed: seed, rng: rng}
	for b := range 3 {
		base := part{fmt.Sprintf("base%d", b), c.between(25, 60)}
		for r := range 3 {
			c.runtimes = append(c.runtimes, [2]part{base, {fmt.Sprintf("base%d-runtime%d", b, r), c.between(80, 180)}})
		}
	}
	return c
}

func (c *catalog) between(low, high int64) int64 {
	return (low + c.rng.Int64N(high-low)) * megabyte
}

// versions makes an application in two versions: they differ in the last two layers.
func (c *catalog) versions(app string) (v1, v2 *image) {
	shared := c.runtimes[c.rng.IntN(len(c.runtimes))]
	libraries := part{app + "-libraries", c.between(20, 60)}
	made := func(tag string) *image {
		own := []part{{app + "-code-" + tag, c.between(5, 20)}, {app + "-assets-" + tag, c.between(10, 30)}}
		return c.image(app, tag, append([]part{shared[0], shared[1], libraries}, own...))
	}
	return made("v1"), made("v2")
}

func (c *catalog) image(app, tag string, parts []part) *image {
	i := &image{repository: registryHost + "/" + app, tag: tag, digest: mint(c.seed, app+":"+tag), layers: map[string][]layer{}}
	for _, arch := range []string{amd64, arm64} {
		for _, p := range parts {
			i.layers[arch] = append(i.layers[arch], layer{mint(c.seed, arch+"/"+p.name), p.bytes})
		}
	}
	return i
}

package registrycheck

import (
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Runtime is a container runtime, by what it refuses and how much disk an image takes.
type Runtime string

// Runtimes.
const (
	Containerd Runtime = "containerd" // 2.x; keeps layers compressed and unpacked
	CRIO       Runtime = "cri-o"      // keeps layers unpacked
	Docker     Runtime = "docker"     // 23 or later with its own image store; keeps layers unpacked
)

// Media types of layers that go-containerregistry has no name for.
const (
	ociRestrictedZstd types.MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
	dockerLayerTar    types.MediaType = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerZstd   types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	dockerForeignTar  types.MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar"
)

// layerTypes are the media types of layers that every runtime unpacks.
var layerTypes = []types.MediaType{
	types.OCILayer, types.OCIUncompressedLayer, types.OCILayerZStd,
	types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer, ociRestrictedZstd,
	types.DockerLayer, dockerLayerTar, types.DockerForeignLayer, dockerForeignTar,
}

// encrypted is how the media types of encrypted layers end.
const encrypted = "+encrypted"

// refuses says why a runtime does not unpack a layer of that type, "" when it does.
func (r Runtime) refuses(mt types.MediaType) string {
	switch {
	case slices.Contains(layerTypes, mt):
		return ""
	case strings.HasSuffix(string(mt), encrypted) || strings.Contains(string(mt), encrypted+"."):
		return "is encrypted, and nodes have no key for it"
	case mt == dockerLayerZstd && r == CRIO:
		return "is of Docker's own zstd type, which CRI-O does not know before 1.36"
	case mt == dockerLayerZstd:
		return ""
	}
	return "is of a kind that " + string(r) + " does not unpack"
}

// Unpacked bytes by compressed ones: images of distributions and of language runtimes lie
// between 2 and 3. An estimate that is too low costs a pull that stops half way.
const (
	unpackedOfGzip = 2.5
	unpackedOfZstd = 3
)

// disk estimates what layers take on a node, in bytes. unpacked is the size of their
// content where it is known, else 0.
func (r Runtime) disk(layers []v1.Descriptor, unpacked int64) int64 {
	var compressed, estimate int64
	for _, l := range layers {
		compressed += l.Size
		estimate += unpackedSize(l)
	}
	if unpacked > 0 {
		estimate = unpacked
	}
	if r == Containerd {
		return compressed + estimate
	}
	return estimate
}

func unpackedSize(l v1.Descriptor) int64 {
	factor := unpackedOfGzip
	switch mt := string(l.MediaType); {
	case strings.HasSuffix(mt, "zstd"):
		factor = unpackedOfZstd
	case strings.HasSuffix(mt, ".tar"):
		factor = 1
	}
	return int64(factor * float64(l.Size))
}

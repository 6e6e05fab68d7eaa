package scene

import (
	"fmt"
	"runtime"

	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
)

// Platform is the one of all images and nodes.
const Platform = "linux/" + runtime.GOARCH

// Image is an image that no registry has.
type Image struct {
	// Name is its reference, canonical: registry.example/app:v1.
	Name string
	// Layers are its layers, base first.
	Layers []v1alpha1.Layer
}

// Layer gives a layer of a size in bytes; one name is one layer.
func Layer(name string, size int64) v1alpha1.Layer {
	return v1alpha1.Layer{Digest: digest.FromString("layer " + name).String(), Size: size}
}

// Digest is what the name stands for.
func (i Image) Digest() digest.Digest {
	return digest.FromString("image " + i.Name + fmt.Sprint(i.Layers))
}

// Size is what a node downloads that holds none of the layers, in bytes.
func (i Image) Size() int64 {
	var size int64
	for _, l := range i.Layers {
		size += l.Size
	}
	return size
}

// Cached is how a node reports that it holds the image.
func (i Image) Cached() v1alpha1.NodeImageStatus {
	return v1alpha1.NodeImageStatus{Name: i.Name, Digest: i.Digest().String(), Phase: v1alpha1.PhaseCached, Size: i.Size()}
}

// Pulling is how a node reports that it pulls the image and has some of its bytes.
func (i Image) Pulling(bytes int64) v1alpha1.NodeImageStatus {
	s := i.Cached()
	s.Phase, s.BytesPulled = v1alpha1.PhasePulling, bytes
	return s
}

// Content says what the image consists of.
func (i Image) Content() (*v1alpha1.ImageContent, error) {
	ref, err := imageref.Parse(i.Name)
	if err != nil {
		return nil, fmt.Errorf("making the content of %s: %w", i.Name, err)
	}
	return &v1alpha1.ImageContent{
		ObjectMeta:   metav1.ObjectMeta{Name: v1alpha1.ContentName(i.Digest())},
		Repositories: []string{ref.Name()},
		Platforms: []v1alpha1.PlatformContent{{
			OS: "linux", Architecture: runtime.GOARCH, Size: i.Size(), Layers: i.Layers,
			ManifestDigest: digest.FromString("manifest " + i.Name).String(), ConfigDigest: digest.FromString("config " + i.Name).String(),
		}},
	}, nil
}

package resolution

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/registrycheck/keychain"
)

// ManifestProber is a Prober that goes by manifests alone: it sees platforms that an image
// does not have, and no layer that its registry lost.
type ManifestProber struct{ Resolver Resolver }

// Probe reads the image and looks for what nodes of each platform take of it.
func (m ManifestProber) Probe(ctx context.Context, ref imageref.Reference, nodes []string, keys keychain.Keychain) (Probed, error) {
	img, err := m.Resolver.Resolve(ctx, ref, keys)
	if err != nil {
		return Probed{}, err
	}
	p := Probed{Image: img, Found: map[string]v1alpha1.ImageCheck{}}
	for _, node := range nodes {
		p.Found[node] = v1alpha1.ImageCheck{Verdict: v1alpha1.VerdictPullable}
		spec, err := platforms.Parse(node)
		if err != nil {
			return Probed{}, fmt.Errorf("platform %q of a node: %w", node, err)
		}
		if _, ok := img.For(spec); !ok {
			p.Found[node] = v1alpha1.ImageCheck{
				Verdict: v1alpha1.VerdictNotPullable, Reason: v1alpha1.ReasonPlatformMissing,
				Message: fmt.Sprintf("it has nothing for %s nodes, only for %v: build it for them, or keep it off such nodes", node, img.Platforms),
			}
		}
	}
	return p, nil
}

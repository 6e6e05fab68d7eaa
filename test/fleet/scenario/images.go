package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/test/lab/registry"
	"edgecache.dev/test/lab/testimage"
)

const (
	// privatePrefix begins the repositories that want credentials.
	privatePrefix = "private/"
	pullSecret    = "fleet-pull"
	user          = "fleet"
	password      = "lab-only"
)

// image is one that the real registry has for the controller, and the played one for engines.
type image struct{ name, digest string }

// push makes an image. In the registry it is tiny; for engines it has a real size.
func (w *World) push(ctx context.Context, reference string) (image, error) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(reference)) // never fails
	img, err := testimage.Image(testimage.Spec{Layers: []testimage.Random{{Seed: h.Sum64(), Size: 64}}})
	if err != nil {
		return image{}, err
	}
	pushed, err := w.lab.Push(ctx, reference, img)
	if err != nil {
		return image{}, err
	}
	w.source.Put(digest.Digest(pushed.Digest), w.Seed^h.Sum64())
	return image{name: pushed.Name, digest: pushed.Digest}, nil
}

// pushAll makes count images named after a prefix.
func (w *World) pushAll(ctx context.Context, prefix string, count int) ([]image, error) {
	var out []image
	for i := range count {
		img, err := w.push(ctx, fmt.Sprintf("%s-%02d:v1", prefix, i))
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// lock lets the registry ask for credentials for private images, and gives users the secret.
func (w *World) lock(ctx context.Context) error {
	w.lab.Registry().SetAuth(&registry.Auth{Token: true, Protected: []registry.Protected{{Prefix: privatePrefix, User: user, Password: password}}})
	login, err := json.Marshal(map[string]any{"auths": map[string]any{w.lab.Registry().Addr(): map[string]string{"username": user, "password": password}}})
	if err != nil {
		return err
	}
	_, err = w.kube.CoreV1().Secrets(metav1.NamespaceDefault).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: pullSecret}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: login},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making the pull secret: %w", err)
	}
	return nil
}

// setRegistryGone takes the registry away from controller and engines, or brings it back.
func (w *World) setRegistryGone(ctx context.Context, gone bool) error {
	w.source.SetGone(gone)
	return w.lab.Registry().SetFaults(ctx, registry.Faults{Refuse: gone})
}

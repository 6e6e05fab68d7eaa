package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"edgecache.dev/api/imageref"
	"edgecache.dev/registrycheck/access"
	"edgecache.dev/registrycheck/keychain"
	"edgecache.dev/registrycheck/resolve"
)

// shop starts a registry that holds shop/pos:v3.2 for two platforms, both without
// layers.
func shop() (server *httptest.Server, dial access.DialFunc) {
	server = httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers"}})
		if err != nil {
			panic(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/shop/pos:v3.2")
	if err != nil {
		panic(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		panic(err)
	}
	return server, func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, server.Listener.Addr().String())
	}
}

func Example() {
	server, dial := shop()
	defer server.Close()

	resolver, err := resolve.New(access.Settings{
		Registries: []access.Registry{{Hosts: []string{"registry.example"}, PlainHTTP: true}},
	}, access.WithDial(dial))
	if err != nil {
		panic(err)
	}
	defer resolver.Close()

	ref, err := imageref.Parse("registry.example/shop/pos:v3.2")
	if err != nil {
		panic(err)
	}
	image, err := resolver.Resolve(context.Background(), ref, keychain.Keychain{})
	if err != nil {
		panic(err)
	}
	for _, p := range image.Platforms {
		fmt.Println(p, p.Size, "bytes")
	}
	_, ok := image.SizeFor(platforms.MustParse("linux/riscv64"))
	fmt.Println("runs on riscv64:", ok)
	// Output:
	// linux/amd64 389 bytes
	// linux/arm64 389 bytes
	// runs on riscv64: false
}

func ExampleError() {
	server, dial := shop()
	defer server.Close()
	resolver, err := resolve.New(access.Settings{
		Registries: []access.Registry{{Hosts: []string{"registry.example"}, PlainHTTP: true}},
	}, access.WithDial(dial))
	if err != nil {
		panic(err)
	}
	defer resolver.Close()

	ref, err := imageref.Parse("registry.example/shop/pos:v3.3")
	if err != nil {
		panic(err)
	}
	_, err = resolver.Digest(context.Background(), ref, keychain.Keychain{})
	if failure, ok := errors.AsType[*resolve.Error](err); ok {
		fmt.Println(failure.Verdict, failure.Reason)
		fmt.Println(failure.Message)
	}
	// Output:
	// NotPullable NotFound
	// registry.example has no registry.example/shop/pos:v3.3 (404): check repository and tag, or push it; if it is private, add a pull Secret
}

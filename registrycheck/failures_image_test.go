package registrycheck

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestFailures are those of manifests and indexes.
func manifestFailures() []failure {
	raw := func(mediaType, text string) func(*testing.T, *server) subject {
		return func(t *testing.T, s *server) subject {
			s.manifest(t, "app", "v1", mediaType, []byte(text))
			return subject{}
		}
	}
	return []failure{
		{"image", func(t *testing.T, s *server) subject { s.image(t, "app", "v1", host, 3); return subject{} }, ReasonAvailable, ""},
		{"index", func(t *testing.T, s *server) subject {
			_, a := s.image(t, "app", "", host, 2)
			_, b := s.image(t, "app", "", other, 2)
			s.index(t, "app", "v1", b, a)
			return subject{}
		}, ReasonAvailable, ""},
		{"index in an index", func(t *testing.T, s *server) subject {
			_, a := s.image(t, "app", "", host, 2)
			s.index(t, "app", "v1", s.index(t, "app", "", a))
			return subject{}
		}, ReasonAvailable, ""},
		{"index with attestations", func(t *testing.T, s *server) subject {
			_, a := s.image(t, "app", "", host, 1)
			_, note := s.image(t, "app", "", "linux/unknown", 1)
			note.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
			note.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
			s.remove("app", note)
			s.index(t, "app", "v1", a, note)
			return subject{}
		}, ReasonAvailable, ""},
		{"index that states no platform", func(t *testing.T, s *server) subject {
			_, a := s.image(t, "app", "", host, 1)
			a.Platform = nil
			s.index(t, "app", "v1", a)
			return subject{}
		}, ReasonAvailable, ""},
		{"index without the platform", func(t *testing.T, s *server) subject {
			_, b := s.image(t, "app", "", other, 1)
			s.index(t, "app", "v1", b)
			return subject{}
		}, ReasonPlatformMissing, ""},
		{"index of nothing", func(t *testing.T, s *server) subject {
			s.index(t, "app", "v1", []ocispec.Descriptor{}...)
			return subject{}
		}, ReasonPlatformMissing, ""},
		{"index whose image is gone", func(t *testing.T, s *server) subject {
			_, a := s.image(t, "app", "", host, 1)
			s.index(t, "app", "v1", a)
			s.remove("app", a)
			return subject{}
		}, ReasonBlobMissing, ""},
		{"index whose image for others is gone", func(t *testing.T, s *server) subject {
			_, a := s.image(t, "app", "", host, 1)
			_, b := s.image(t, "app", "", other, 1)
			s.index(t, "app", "v1", a, b)
			s.remove("app", b)
			return subject{}
		}, ReasonAvailable, ""},
		{"image for another platform", func(t *testing.T, s *server) subject { s.image(t, "app", "v1", other, 1); return subject{} },
			ReasonPlatformMismatch, "containerd pulls it, and its containers end with “exec format error”"},
		{"index that says one platform, image another", func(t *testing.T, s *server) subject {
			_, b := s.image(t, "app", "", other, 1)
			_, a := s.image(t, "app", "", host, 1)
			b.Platform = a.Platform
			s.index(t, "app", "v1", b)
			return subject{}
		}, ReasonPlatformMismatch, ""},
		{"manifest is not JSON", raw(ocispec.MediaTypeImageManifest, "{nonsense"), ReasonInvalidImage, ""},
		{"manifest is an image and an index", raw(ocispec.MediaTypeImageManifest,
			`{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}`), ReasonInvalidImage, ""},
		{"manifest of Docker schema 1", raw("application/vnd.docker.distribution.manifest.v1+prettyjws",
			`{"schemaVersion":1,"name":"app","tag":"v1","architecture":"amd64","fsLayers":[],"history":[]}`), ReasonUnsupportedMediaType, ""},
		{"manifest beyond 4 MiB", func(t *testing.T, s *server) subject {
			b := s.build(t, "app", host, s.layers(t, "app", "x", 1))
			b.manifest.Annotations = map[string]string{"x": strings.Repeat("x", 5<<20)}
			s.manifest(t, "app", "v1", ocispec.MediaTypeImageManifest, b.manifest)
			return subject{}
		}, ReasonTooLarge, ""},
		{"manifest without end", func(t *testing.T, s *server) subject {
			s.on(on("/manifests/", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
				for r.Method == http.MethodGet {
					if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
						return
					}
				}
			}))
			return subject{}
		}, ReasonTooLarge, ""},
		{"manifest with another digest", func(t *testing.T, s *server) subject {
			_, d := s.image(t, "app", "v1", host, 1)
			s.put("app/manifests/"+d.Digest.String(), ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
			return subject{ref: s.ref("app@" + d.Digest.String())}
		}, ReasonDigestMismatch, ""},
		{"chart or other artifact", func(t *testing.T, s *server) subject {
			b := s.build(t, "app", host, s.layers(t, "app", "x", 1))
			b.manifest.Config = s.blob("app", "application/vnd.cncf.helm.config.v1+json", []byte(`{"name":"app"}`))
			s.manifest(t, "app", "v1", ocispec.MediaTypeImageManifest, b.manifest)
			return subject{}
		}, ReasonNotAnImage, ""},
		{"digests of sha512", func(t *testing.T, s *server) subject {
			b := s.build(t, "app", host, s.layers(t, "app", "x", 1))
			text := content(t, "sha512")
			d := s.blob("app", ocispec.MediaTypeImageLayer, text)
			d.Digest = digest.SHA512.FromBytes(text)
			s.put("app/blobs/"+d.Digest.String(), d.MediaType, text)
			b.manifest.Layers[0] = d
			b.config.RootFS.DiffIDs[0] = digest.FromBytes(text)
			b.store(t, s, "app")
			s.manifest(t, "app", "v1", ocispec.MediaTypeImageManifest, b.manifest)
			return subject{}
		}, ReasonInvalidImage, "containerd pulls it; edgecache keeps images by their sha256 alone"},
		{"Docker's own media types", func(t *testing.T, s *server) subject {
			l := s.layer(t, "app", "x", "application/vnd.docker.image.rootfs.diff.tar.gzip")
			b := s.build(t, "app", host, []layer{l})
			b.manifest.MediaType, b.manifest.Config.MediaType = dockerManifest, dockerConfig
			s.manifest(t, "app", "v1", dockerManifest, b.manifest)
			return subject{}
		}, ReasonAvailable, ""},
	}
}

// blobFailures are those of configurations and layers that are not there.
func blobFailures() []failure {
	with := func(f front) func(*testing.T, *server) subject {
		return func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 3)
			s.on(f)
			return subject{}
		}
	}
	without := func(spoil func(*testing.T, *server, built)) func(*testing.T, *server) subject {
		return func(t *testing.T, s *server) subject {
			b, _ := s.image(t, "app", "v1", host, 3)
			spoil(t, s, b)
			return subject{}
		}
	}
	layers := func(f front) func(*testing.T, *server) subject {
		return without(func(_ *testing.T, s *server, b built) {
			s.on(func(w http.ResponseWriter, r *http.Request) bool {
				return strings.Contains(r.URL.Path, "/blobs/") && !strings.HasSuffix(r.URL.Path, b.manifest.Config.Digest.String()) && f(w, r)
			})
		})
	}
	return []failure{
		{"configuration missing", without(func(_ *testing.T, s *server, b built) { s.remove("app", b.manifest.Config) }), ReasonBlobMissing, ""},
		{"layer missing", without(func(_ *testing.T, s *server, b built) { s.remove("app", b.manifest.Layers[1]) }), ReasonBlobMissing, ""},
		{"all layers missing", layers(func(w http.ResponseWriter, _ *http.Request) bool { refuse(w, 404, "BLOB_UNKNOWN"); return true }), ReasonBlobMissing, ""},
		{"HEAD for layers answers 404", with(func(w http.ResponseWriter, r *http.Request) bool { return head(w, r, "/blobs/", 404) }), ReasonAvailable, ""},
		{"HEAD for layers answers 403", with(func(w http.ResponseWriter, r *http.Request) bool { return head(w, r, "/blobs/", 403) }), ReasonAvailable, ""},
		{"HEAD for layers answers 405", with(func(w http.ResponseWriter, r *http.Request) bool { return head(w, r, "/blobs/", 405) }), ReasonAvailable, ""},
		{"HEAD for layers names no length", with(func(w http.ResponseWriter, r *http.Request) bool { return head(w, r, "/blobs/", 200) }), ReasonAvailable, ""},
		{"HEAD for layers answers 404, ranges are not known", layers(func(w http.ResponseWriter, r *http.Request) bool {
			r.Header.Del("Range")
			return head(w, r, "/blobs/", 404)
		}), ReasonAvailable, ""},
		{"GET for layers answers 404, HEAD 200", layers(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet {
				refuse(w, 404, "BLOB_UNKNOWN")
			}
			return r.Method == http.MethodGet
		}), ReasonAvailable, "without --full HEAD is believed where it says that a layer is there"},
		{"the same, all downloaded", func(t *testing.T, s *server) subject {
			b, _ := s.image(t, "app", "v1", host, 3)
			s.on(func(w http.ResponseWriter, r *http.Request) bool {
				lies := r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, b.manifest.Layers[0].Digest.String())
				if lies {
					refuse(w, 404, "BLOB_UNKNOWN")
				}
				return lies
			})
			return subject{full: true}
		}, ReasonBlobMissing, ""},
		{"layer of another size", without(func(_ *testing.T, s *server, b built) {
			s.change("app", b.manifest.Layers[0], func(o *stored) { o.raw = append(o.raw, "more"...) })
		}), ReasonDigestMismatch, ""},
		{"registry fails for a layer", without(func(_ *testing.T, s *server, b built) {
			s.on(on(b.manifest.Layers[2].Digest.String(), status(http.StatusInternalServerError)))
		}), ReasonRegistryError, ""},
		{"layers on another host", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 2)
			s.on(redirect(t, s, "/blobs/", nil))
			return subject{}
		}, ReasonAvailable, ""},
		{"other host signs for GET only", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 2)
			s.on(redirect(t, s, "/blobs/", func(w http.ResponseWriter, r *http.Request) bool { return head(w, r, "/", 403) }))
			return subject{}
		}, ReasonAvailable, ""},
		{"other host refuses", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 2)
			s.on(redirect(t, s, "/blobs/", on("/", status(403, "AccessDenied"))))
			return subject{}
		}, ReasonStorageError, ""},
		{"other host has lost a layer", func(t *testing.T, s *server) subject {
			b, _ := s.image(t, "app", "v1", host, 2)
			s.on(redirect(t, s, b.manifest.Layers[1].Digest.String(), on("/", status(404, "NoSuchKey"))))
			return subject{}
		}, ReasonBlobMissing, ""},
		{"other host is not reached", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 2)
			closed := closedPort(t)
			s.on(on("/blobs/", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://"+closed+r.URL.Path+"?sig=s1gned", http.StatusTemporaryRedirect)
			}))
			return subject{}
		}, ReasonNetworkError, ""},
		{"other host is the machine itself", func(t *testing.T, s *server) subject {
			s.image(t, "app", "v1", host, 2)
			s.on(redirect(t, s, "/blobs/", nil))
			return subject{guarded: true}
		}, ReasonRegistryError, "containerd follows a registry to any address; edgecache does not, unless the host is allowed by name"},
		{"redirects without end", with(on("/blobs/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		})), ReasonRegistryError, ""},
	}
}

// redirect sends requests for a part to another host that has the same data.
func redirect(t *testing.T, s *server, part string, f front) front {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	store := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f != nil && f(w, r) {
			return
		}
		s.mu.Lock()
		o := s.stored[strings.TrimPrefix(r.URL.Path, "/v2/")]
		s.mu.Unlock()
		o.serve(w, r)
	})}}
	store.Start()
	t.Cleanup(store.Close)
	return on(part, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+l.Addr().String()+r.URL.Path+"?sig=s1gned", http.StatusTemporaryRedirect)
	})
}

// contentFailures are those that lie in the bytes.
func contentFailures() []failure {
	typed := func(mediaType string) func(*testing.T, *server) subject {
		return func(t *testing.T, s *server) subject {
			b := s.build(t, "app", host, []layer{s.layer(t, "app", "x", mediaType)})
			s.manifest(t, "app", "v1", ocispec.MediaTypeImageManifest, b.manifest)
			return subject{full: true}
		}
	}
	spoiled := func(spoil func(*testing.T, *server, *built)) func(*testing.T, *server) subject {
		return func(t *testing.T, s *server) subject {
			b := s.build(t, "app", host, s.layers(t, "app", "x", 2))
			spoil(t, s, &b)
			s.manifest(t, "app", "v1", ocispec.MediaTypeImageManifest, b.manifest)
			return subject{full: true}
		}
	}
	return []failure{
		{"layers of zstd", typed(ocispec.MediaTypeImageLayerZstd), ReasonAvailable, ""},
		{"layers of Docker's zstd", typed(string(dockerLayerZstd)), ReasonAvailable, ""},
		{"layers not compressed", typed(ocispec.MediaTypeImageLayer), ReasonAvailable, ""},
		{"layers not to be distributed, but there", typed("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), ReasonAvailable, ""},
		{"layers encrypted", typed(ocispec.MediaTypeImageLayerGzip + "+encrypted"), ReasonUnsupportedMediaType, ""},
		{"layers of an unknown kind", typed("application/vnd.example.layer"), ReasonUnsupportedMediaType, ""},
		{"layer damaged", spoiled(func(_ *testing.T, s *server, b *built) {
			s.change("app", b.manifest.Layers[0], func(o *stored) { o.raw = append([]byte("damaged"), o.raw[7:]...) })
		}), ReasonDigestMismatch, ""},
		{"layer cut short", spoiled(func(_ *testing.T, s *server, b *built) {
			s.on(on(b.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", strconv.FormatInt(b.manifest.Layers[0].Size, 10))
				if r.Method == http.MethodGet {
					_, _ = io.WriteString(w, "half of it")
					panic(http.ErrAbortHandler)
				}
			}))
		}), ReasonNetworkError, ""},
		{"layer without end", spoiled(func(_ *testing.T, s *server, b *built) {
			s.on(on(b.manifest.Layers[0].Digest.String(), func(w http.ResponseWriter, r *http.Request) {
				for r.Method == http.MethodGet {
					if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
						return
					}
				}
			}))
		}), ReasonDigestMismatch, ""},
		{"layer that cannot be unpacked", spoiled(func(t *testing.T, s *server, b *built) {
			b.manifest.Layers[0] = s.blob("app", ocispec.MediaTypeImageLayerGzip, []byte("\x1f\x8b\x08no gzip at all"))
		}), ReasonInvalidImage, ""},
		{"layer with other content than the configuration says", spoiled(func(t *testing.T, s *server, b *built) {
			b.config.RootFS.DiffIDs[0] = digest.FromString("other")
			b.store(t, s, "app")
		}), ReasonDigestMismatch, ""},
		{"configuration and manifest name other numbers of layers", spoiled(func(t *testing.T, s *server, b *built) {
			b.config.RootFS.DiffIDs = b.config.RootFS.DiffIDs[:1]
			b.store(t, s, "app")
		}), ReasonInvalidImage, ""},
		{"configuration is not JSON", spoiled(func(_ *testing.T, s *server, b *built) {
			b.manifest.Config = s.blob("app", ocispec.MediaTypeImageConfig, []byte("nonsense"))
		}), ReasonInvalidImage, ""},
		{"configuration damaged", spoiled(func(_ *testing.T, s *server, b *built) {
			s.change("app", b.manifest.Config, func(o *stored) { o.raw = bytes.ToUpper(o.raw) })
		}), ReasonDigestMismatch, ""},
		{"configuration beyond 4 MiB", spoiled(func(t *testing.T, s *server, b *built) {
			b.config.Author = strings.Repeat("x", 5<<20)
			b.store(t, s, "app")
		}), ReasonTooLarge, "containerd reads it; other runtimes refuse it, and so does edgecache"},
		{"layer of 0 bytes", spoiled(func(t *testing.T, s *server, b *built) {
			b.manifest.Layers[0] = s.blob("app", ocispec.MediaTypeImageLayer, nil)
			b.config.RootFS.DiffIDs[0] = digest.FromString("")
			b.store(t, s, "app")
		}), ReasonAvailable, ""},
	}
}

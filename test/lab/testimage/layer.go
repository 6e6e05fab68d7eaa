package testimage

import (
	"archive/tar"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// fileSize is the most that one file of a random layer holds: unpacking writes several files, as real layers do.
const fileSize = 4 << 20

// Random is a layer of random bytes. The same values give the same layer, so images that name the same share it.
type Random struct {
	// Seed chooses the bytes.
	Seed uint64
	// Size is how many bytes the files of the layer hold together.
	Size int64
}

// Layer returns the layer.
func (r Random) Layer() (v1.Layer, error) {
	// Random bytes only cost time to compress.
	layer, err := tarball.LayerFromOpener(r.open, tarball.WithCompressionLevel(gzip.NoCompression), tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("making a random layer of %d bytes: %w", r.Size, err)
	}
	return layer, nil
}

// open returns the layer's tar stream, made while it is read.
func (r Random) open() (io.ReadCloser, error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(r.write(writer)) }()
	return reader, nil
}

func (r Random) write(w io.Writer) error {
	archive := tar.NewWriter(w)
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], r.Seed)
	source := rand.NewChaCha8(seed)
	dir := fmt.Sprintf("data/%d-%d", r.Seed, r.Size)
	for left, i := r.Size, 0; left > 0; i++ {
		size := min(left, fileSize)
		if err := writeFile(archive, path.Join(dir, fmt.Sprintf("%04d.bin", i)), 0o644, size, source); err != nil {
			return err
		}
		left -= size
	}
	return archive.Close()
}

// writeFile adds one file, owned by root and as old as the epoch: time must not change a digest.
func writeFile(archive *tar.Writer, name string, mode, size int64, content io.Reader) error {
	header := &tar.Header{Name: name, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.CopyN(archive, content, size)
	return err
}

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/klog/v2"

	"edgecache.dev/internal/seal"
)

const (
	// KeyFileName of the node's private key within the state directory.
	KeyFileName = "node.key"
	// maxKeyBytes is far above what the file has: a line with the node's name and the key.
	maxKeyBytes = 1 << 10
	// keyHeader begins the file and is followed by the name of the node.
	keyHeader = "# edgecache: the private key of node "
)

// OpenKey reads the private key of a node from its state directory, which exists, or makes
// one. A file that is damaged or of another node, as when a disk was cloned, is moved aside:
// the credentials of a node are then sealed anew, to the new key. A file that others may
// read is an error. A key that cannot be written is used all the same, for as long as the
// process lasts.
func OpenKey(ctx context.Context, dir, node string) (*seal.Key, error) {
	path, log := filepath.Join(dir, KeyFileName), klog.FromContext(ctx)
	key, err := readKey(path, node)
	if err == nil {
		return key, nil
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
	case errors.Is(err, errDamaged):
		aside, moveErr := quarantine(path)
		log.Error(errors.Join(err, moveErr), "The node's private key is made anew: pull credentials have to be sealed again", "aside", aside)
		if moveErr != nil {
			return seal.NewKey() // as long as the process lasts, and the file stays as it is
		}
	default:
		return nil, err
	}
	if key, err = seal.NewKey(); err != nil {
		return nil, err
	}
	if err := writeKey(path, node, key); err != nil {
		log.Error(err, "The node's private key is not kept: after a restart pull credentials have to be sealed again")
	}
	return key, nil
}

// readKey gives errDamaged for a file that cannot be used.
func readKey(path, node string) (*seal.Key, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, unread(path, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("the node's private key %s is no regular file: move it away, and a new key is made", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("the node's private key %s has mode %04o, must be 0600: move it away if others may have read it, and a new key is made; else run chmod 600 on it",
			path, info.Mode().Perm())
	case info.Size() > maxKeyBytes:
		return nil, fmt.Errorf("the node's private key %s has %d bytes: %w", path, info.Size(), errDamaged)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, unread(path, err)
	}
	header, text, _ := strings.Cut(string(b), "\n")
	key, err := seal.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("the node's private key %s: %w: %w", path, err, errDamaged)
	}
	if header != keyHeader+node {
		return nil, fmt.Errorf("the node's private key %s is not that of node %q: %w", path, node, errDamaged)
	}
	return key, nil
}

// unread says what it means that a file cannot be read.
func unread(path string, err error) error {
	if refused(err) {
		return fmt.Errorf("reading the node's private key: %w", err)
	}
	return fmt.Errorf("reading the node's private key %s: %w: %w", path, err, errDamaged)
}

// writeKey writes the file under a temporary name and renames it: nobody ever finds half
// a key.
func writeKey(path, node string, key *seal.Key) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing left-over %s: %w", tmp, err)
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the node's private key: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s%s\n%s\n", keyHeader, node, key.Text())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing the node's private key: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing the node's private key: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

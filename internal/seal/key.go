package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Key is a node's private key. Printing it in any way shows its ID. The zero value is no key.
type Key struct {
	// identity is a function because fmt calls no methods on unexported fields, and would
	// print the bytes of what it points at: of a function it prints an address.
	identity func() *age.X25519Identity
}

// NewKey makes a key.
func NewKey() (*Key, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return keyOf(identity), nil
}

// ParseKey reads what Text gave. Space around it does not count.
func ParseKey(text string) (*Key, error) {
	identity, err := age.ParseX25519Identity(strings.TrimSpace(text))
	if err != nil { // whose text may repeat a part of the key
		return nil, errors.New("reading a key: not an age X25519 private key")
	}
	return keyOf(identity), nil
}

func keyOf(identity *age.X25519Identity) *Key {
	return &Key{identity: func() *age.X25519Identity { return identity }}
}

// Text is the private key itself, for its file.
func (k Key) Text() string { return k.identity().String() }

// Recipient is the public key, to which others seal.
func (k Key) Recipient() string { return k.identity().Recipient().String() }

// ID tells this key from others. It follows from Recipient.
func (k Key) ID() string {
	sum := sha256.Sum256([]byte(k.Recipient()))
	return hex.EncodeToString(sum[:16])
}

// String gives the ID.
func (k Key) String() string {
	if k.identity == nil {
		return "no key"
	}
	return "key " + k.ID()
}

// GoString is String: %#v must not show fields.
func (k Key) GoString() string { return k.String() }

// Format prints String for every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalJSON gives String as a JSON string.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

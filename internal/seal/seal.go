package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// MaxSealed is the longest sealed credential, in bytes: its API field takes 16,384
// characters, which are base64.
const MaxSealed = 16384 / 4 * 3

// ErrOtherKey is what Open gives for bytes that are sealed to another key.
var ErrOtherKey = errors.New("sealed to another key")

// errDamaged is what Open gives for bytes that nobody sealed, or not like this.
var errDamaged = errors.New("damaged")

// Auth is a credential in the form of a docker configuration. Printing it in any way shows
// nothing of it. fmt cannot see to that where it stands in an unexported field.
type Auth struct{ Username, Password, Auth, IdentityToken, RegistryToken string }

// redacted is printed in place of every credential: also the user's name may be a token.
const redacted = "[redacted credential]"

// String shows nothing.
func (a Auth) String() string { return redacted }

// GoString shows nothing.
func (a Auth) GoString() string { return redacted }

// Format prints String for every verb.
func (a Auth) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON shows nothing.
func (a Auth) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// Payload is a credential, what it is for and whom it is for.
type Payload struct {
	// Match is the registry, port and path prefix that the credential is for.
	Match string
	// NodeUID is the UID of the Node that may use it.
	NodeUID string
	Auth    Auth
}

// document is a Payload as it is sealed. Fields may be added: who does not know them skips
// them.
type document struct {
	Match   string `json:"match"`
	NodeUID string `json:"nodeUID"`
	Auth    auth   `json:"auth"`
}

// auth is an Auth that can be written.
type auth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// Seal closes a credential to a node's public key, in the form that its status publishes. It
// gives other bytes each time.
func Seal(recipient string, p Payload) ([]byte, error) {
	if p.Match == "" || p.NodeUID == "" {
		return nil, errors.New("sealing a credential: it names no registry or no Node")
	}
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil { // whose text repeats what stands there in place of a public key
		return nil, errors.New("sealing a credential: recipient is not an age X25519 public key")
	}
	plain, err := json.Marshal(document{Match: p.Match, NodeUID: p.NodeUID, Auth: auth(p.Auth)})
	if err != nil {
		return nil, errors.New("sealing a credential: it cannot be written as JSON")
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, to)
	if err == nil {
		_, err = w.Write(plain)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("sealing a credential: %w", err)
	}
	if sealed.Len() > MaxSealed {
		return nil, fmt.Errorf("sealing a credential: it takes %d bytes, at most %d fit", sealed.Len(), MaxSealed)
	}
	return sealed.Bytes(), nil
}

// Open opens what was sealed to this key for a match and a Node.
func (k Key) Open(sealed []byte, match, nodeUID string) (Payload, error) {
	plain, err := k.decrypt(sealed)
	if err != nil {
		return Payload{}, fmt.Errorf("opening a sealed credential: %w", err)
	}
	var d document
	switch err := json.Unmarshal(plain, &d); {
	case err != nil: // whose text may repeat a value
		return Payload{}, errors.New("opening a sealed credential: what was sealed is no credential")
	case d.Match == "" || d.NodeUID == "":
		return Payload{}, errors.New("opening a sealed credential: it names no registry or no Node")
	case d.Match != match:
		return Payload{}, errors.New("opening a sealed credential: it was sealed for another registry than the entry names")
	case d.NodeUID != nodeUID:
		return Payload{}, errors.New("opening a sealed credential: it was sealed for another Node")
	}
	return Payload{Match: d.Match, NodeUID: d.NodeUID, Auth: Auth(d.Auth)}, nil
}

// decrypt gives what was sealed. What age says of bytes that are not its own is left out:
// it repeats them.
func (k Key) decrypt(sealed []byte) ([]byte, error) {
	if k.identity == nil {
		return nil, errors.New("there is no key")
	}
	if len(sealed) > MaxSealed {
		return nil, fmt.Errorf("it has %d bytes, at most %d are looked at", len(sealed), MaxSealed)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identity())
	if _, other := errors.AsType[*age.NoIdentityMatchError](err); other {
		return nil, ErrOtherKey
	}
	if err != nil {
		return nil, errDamaged
	}
	plain, err := io.ReadAll(r) // which is shorter than what was sealed
	if err != nil {
		return nil, errDamaged
	}
	return plain, nil
}

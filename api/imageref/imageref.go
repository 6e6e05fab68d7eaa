package imageref

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// MaxLength is the longest reference accepted, in bytes, both as written and in
// canonical form. It bounds the size of a NodeImageCache with 1,000 images.
const MaxLength = 255

// Pattern is the regular expression that the ImageCache CRD applies to each reference.
// It accepts every reference that Parse accepts; Parse is stricter only on rules that a
// regular expression cannot express (64 hexadecimal digits as a repository name, the
// length of the canonical form).
const Pattern = `^(?:(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])` +
	`(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` +
	`[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*` +
	`(?::\w[\w.-]{0,127})?(?:@sha256:[a-f0-9]{64})?$`

// Reference is one image: a repository with either a tag or a digest. The zero value is
// no image. References are comparable; equal values name the same image.
type Reference struct {
	registry   string
	repository string
	tag        string
	digest     digest.Digest
}

// Parse reads a reference as users write it. The registry defaults to docker.io, a
// single-component docker.io repository to library/…, the tag to latest. The error says
// what is wrong and how to write it instead; it does not repeat the reference.
func Parse(s string) (Reference, error) {
	if err := screen(s); err != nil {
		return Reference{}, err
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, explain(err)
	}
	r := Reference{registry: reference.Domain(named), repository: reference.Path(named)}
	if d, ok := named.(reference.Digested); ok {
		r.digest = d.Digest()
	} else if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
		r.tag = tagged.Tag()
	}
	if n := len(r.String()); n > MaxLength {
		return Reference{}, fmt.Errorf("canonical form has %d characters, at most %d are allowed", n, MaxLength)
	}
	return r, nil
}

// screen refuses the mistakes whose grammar errors would not tell the user what to fix.
func screen(s string) error {
	switch {
	case s == "":
		return errors.New("reference is empty: write it as registry.example/app:v1")
	case len(s) > MaxLength:
		return fmt.Errorf("reference has %d characters, at most %d are allowed", len(s), MaxLength)
	case strings.Contains(s, "://"):
		return fmt.Errorf("reference must not have a scheme: leave out %q", s[:strings.Index(s, "://")+3])
	case strings.ContainsAny(s, " \t\r\n"):
		return errors.New("reference must not contain spaces")
	case strings.HasSuffix(s, ":"):
		return errors.New("tag is empty: write app:v1, or leave out the colon")
	}
	if _, d, ok := strings.Cut(s, "@"); ok {
		return CheckDigest(digest.Digest(d))
	}
	return nil
}

// explain replaces the library's generic answer where the cause is known.
func explain(err error) error {
	switch {
	case errors.Is(err, reference.ErrNameContainsUppercase), strings.HasSuffix(err.Error(), "must be lowercase"):
		return errors.New("repository name must be lowercase")
	case errors.Is(err, reference.ErrReferenceInvalidFormat):
		return errors.New("not a valid image reference: write it as registry.example/app:v1 or registry.example/app@sha256:…")
	}
	return err
}

// CheckDigest says whether d is a well-formed sha256 digest.
func CheckDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q must be sha256: and 64 lowercase hexadecimal digits", d)
	}
	return nil
}

// String gives the canonical form, the name of the image in containerd and CRI:
// "docker.io/library/nginx:latest" or "registry.example/app@sha256:…".
func (r Reference) String() string {
	switch {
	case r.digest != "":
		return r.Name() + "@" + r.digest.String()
	case r.tag != "":
		return r.Name() + ":" + r.tag
	}
	return ""
}

// Familiar gives the shortest spelling that parses to the same reference:
// "nginx:latest" for docker.io/library/nginx:latest.
func (r Reference) Familiar() string {
	if r == (Reference{}) {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(r.String())
	if err != nil {
		return r.String()
	}
	return reference.FamiliarString(named)
}

// Name gives the repository with its registry and without tag or digest:
// "docker.io/library/nginx".
func (r Reference) Name() string {
	if r.registry == "" {
		return r.repository
	}
	return r.registry + "/" + r.repository
}

// Compare orders references by registry, repository, tag and digest.
func Compare(a, b Reference) int {
	return cmp.Or(
		cmp.Compare(a.registry, b.registry),
		cmp.Compare(a.repository, b.repository),
		cmp.Compare(a.tag, b.tag),
		cmp.Compare(a.digest, b.digest),
	)
}

// Registry gives the registry's host and port as named in the reference: "docker.io",
// "registry.example:5000". It is not always the host that serves the API.
func (r Reference) Registry() string { return r.registry }

// Repository gives the repository's path within its registry: "library/nginx".
func (r Reference) Repository() string { return r.repository }

// Tag gives the tag, "" for a reference by digest.
func (r Reference) Tag() string { return r.tag }

// Digest gives the digest, "" for a reference by tag.
func (r Reference) Digest() digest.Digest { return r.digest }

// IsZero says whether r is no image.
func (r Reference) IsZero() bool { return r == Reference{} }

// Moves says whether users expect what the reference points at to change: the tag
// "latest", given or implied. Kubernetes defaults imagePullPolicy to Always for it.
func (r Reference) Moves() bool { return r.tag == "latest" }

// WithDigest gives the same repository by digest: the second name under which a cached
// image is kept, so that pods that pin the digest find it too.
func (r Reference) WithDigest(d digest.Digest) Reference {
	return Reference{registry: r.registry, repository: r.repository, digest: d}
}

// MarshalText gives the canonical form.
func (r Reference) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText parses any accepted spelling.
func (r *Reference) UnmarshalText(b []byte) error {
	parsed, err := Parse(string(b))
	if err != nil {
		return fmt.Errorf("parsing image reference %q: %w", b, err)
	}
	*r = parsed
	return nil
}

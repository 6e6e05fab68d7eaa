package registrycheck

import (
	"cmp"
	"time"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/brief"
)

// Finding is a verdict with its reason, and what a user needs to act on it.
type Finding struct {
	Verdict Verdict `json:"verdict"`
	Reason  Reason  `json:"reason"`
	// Message says what is wrong, in at most 512 bytes. Empty when Pullable.
	Message string `json:"message,omitempty"`
	// URL is the request that failed, without user-info and query.
	URL string `json:"url,omitempty"`
	// Fix says what to do. Empty when nothing is known to help.
	Fix string `json:"fix,omitempty"`
	// RetryAfter is how long the registry asks to wait, 0 when it said nothing.
	RetryAfter time.Duration `json:"-"`
}

// Result is what became of a Request.
type Result struct {
	// Reference and Source are those of the Request.
	Reference string `json:"reference"`
	Source    string `json:"source,omitempty"`
	Finding
	// Digest is what the reference stands for: of the index where there is one. Empty
	// when it was not found out.
	Digest    string `json:"digest,omitempty"`
	MediaType string `json:"mediaType,omitempty"`
	// Host is the registry or mirror that answered.
	Host string `json:"host,omitempty"`
	// Size is what a registry sends for all these platforms together, in bytes: each
	// object once.
	Size int64 `json:"size,omitempty"`
	// Offered are the Linux platforms that the image has.
	Offered []string `json:"offered,omitempty"`
	// Platforms has one entry for each platform asked for, or offered when none was
	// asked for. Empty when the image itself was not found.
	Platforms []Platform `json:"platforms,omitempty"`
	// RedirectHosts are hosts besides Host that served parts of it: firewalls of nodes
	// must let these through too. Sorted.
	RedirectHosts []string `json:"redirectHosts,omitempty"`
	// Signatures is what signs or describes the image; nil when that was not asked.
	Signatures *Signatures `json:"signatures,omitempty"`
}

// Platform is what became of one platform.
type Platform struct {
	// Platform is the one that was asked for, such as linux/arm/v8.
	Platform string `json:"platform"`
	Finding
	// Image is the platform of the image that such a node takes, such as linux/arm/v7.
	Image string `json:"image,omitempty"`
	// Digest is that of the platform's manifest.
	Digest string `json:"digest,omitempty"`
	// Config is the digest of its configuration.
	Config string `json:"config,omitempty"`
	// Size is what such a node downloads, in bytes: manifest, configuration and each
	// distinct layer once.
	Size int64 `json:"size,omitempty"`
	// Disk estimates what it takes on such a node, in bytes: see Runtime.
	Disk int64 `json:"diskEstimate,omitempty"`
	// Unpacked is the size of the layers' content in bytes, known with Full only.
	Unpacked int64 `json:"unpackedSize,omitempty"`
	// Layers are its layers, base first.
	Layers []Layer `json:"layers,omitempty"`
}

// Layer is one layer as it is transferred.
type Layer struct {
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"` // bytes
}

// Signatures says what hangs on an image, not whether it is valid.
type Signatures struct {
	// Signed says that there is at least one signature.
	Signed bool `json:"signed"`
	// Types are the artifact types of what refers to the image, sorted; those of legacy
	// cosign tags are "cosign-signature", "cosign-attestation" and "cosign-sbom".
	Types []string `json:"types,omitempty"`
	// Unknown says why it was not found out; the image's verdict does not depend on it.
	Unknown string `json:"unknown,omitempty"`
}

// Check gives the result as it stands in the status of an ImageCache, without its time.
func (r Result) Check() v1alpha1.ImageCheck {
	check := v1alpha1.ImageCheck{Verdict: r.Verdict, Message: r.Message}
	if r.Verdict != Pullable {
		check.Reason = string(r.Reason)
	}
	if r.Fix != "" {
		check.Message = brief.Text(check.Message+": "+r.Fix, maxMessage)
	}
	return check
}

// maxMessage is the longest message of an ImageCheck, in bytes.
const maxMessage = 512

// Report is the outcome of a run.
type Report struct {
	Images  []Result `json:"images"`
	Summary Summary  `json:"summary"`
}

// Summary counts results by verdict.
type Summary struct {
	Images       int `json:"images"`
	Pullable     int `json:"pullable"`
	NotPullable  int `json:"notPullable"`
	Inconclusive int `json:"inconclusive"`
	// Verdict is the worst of all; Pullable for none.
	Verdict Verdict `json:"verdict"`
}

// NewReport counts the results.
func NewReport(results []Result) Report {
	s := Summary{Images: len(results), Verdict: Pullable}
	for _, r := range results {
		switch r.Verdict {
		case Pullable:
			s.Pullable++
		case NotPullable:
			s.NotPullable++
		case Inconclusive:
			s.Inconclusive++
		}
		s.Verdict = worse(s.Verdict, r.Verdict)
	}
	return Report{Images: results, Summary: s}
}

// worse gives the verdict that counts of two.
func worse(a, b Verdict) Verdict {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// rank orders verdicts: what will not heal counts most.
func rank(v Verdict) int {
	switch v {
	case NotPullable:
		return 2
	case Inconclusive:
		return 1
	case Pullable:
	}
	return 0
}

// found makes the finding of a reason.
func found(reason Reason, message, fix string) Finding {
	return Finding{Verdict: reason.Verdict(), Reason: reason, Message: brief.Text(message, maxMessage), Fix: fix}
}

// Explain gives message and fix in one line; the reason where there is no message.
func (f Finding) Explain() string {
	text := cmp.Or(f.Message, string(f.Reason))
	if f.Fix != "" {
		text += ": " + f.Fix
	}
	return text
}

package manifest

import (
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/json"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
)

// The limits and messages below are those of the CRD. test/integration applies one table of
// manifests to both.
const (
	maxLists       = 64
	maxListImages  = 500
	maxImages      = 1000
	maxSelector    = 32
	maxPullSecrets = 16
	maxPrevious    = 3
	maxPriority    = 1000
	maxRollout     = 1_000_000
	leastRefresh   = 10 * time.Second

	rolloutMessage = `maxConcurrentNodes must be a number from 1 to 1000000 or a percentage from "1%" to "100%"`
)

var (
	duration = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)
	percent  = regexp.MustCompile(`^(100|[1-9][0-9]?)%$`)
	spec     = field.NewPath("spec")
)

// checkText checks what the types cannot be read from when it is wrong, or would say so
// without naming the field.
func checkText(b []byte) field.ErrorList {
	var text struct {
		Spec struct {
			RefreshInterval any `json:"refreshInterval"`
			Rollout         struct {
				MaxConcurrentNodes any `json:"maxConcurrentNodes"`
			} `json:"rollout"`
		} `json:"spec"`
	}
	if json.UnmarshalCaseSensitivePreserveInts(b, &text) != nil {
		return nil // the strict reading says what is wrong
	}
	var errs field.ErrorList
	if v := text.Spec.RefreshInterval; v != nil {
		if s, ok := v.(string); !ok || len(s) > 32 || !duration.MatchString(s) {
			errs = append(errs, field.Invalid(spec.Child("refreshInterval"), v, "write it as a duration such as 15m or 1h30m, or 0s for no periodic refresh"))
		}
	}
	if v := text.Spec.Rollout.MaxConcurrentNodes; v != nil && !concurrent(v) {
		errs = append(errs, field.Invalid(spec.Child("rollout", "maxConcurrentNodes"), v, rolloutMessage))
	}
	return errs
}

func concurrent(v any) bool {
	switch v := v.(type) {
	case int64:
		return v >= 1 && v <= maxRollout
	case string:
		return percent.MatchString(v)
	}
	return false
}

// setDefaults fills in what the CRD has as defaults, as far as it matters here.
func setDefaults(ic *v1alpha1.ImageCache) {
	ic.Status = v1alpha1.ImageCacheStatus{}
	if ic.Spec.State == "" {
		ic.Spec.State = v1alpha1.StateCached
	}
	if ic.Spec.DeletionPolicy == "" {
		ic.Spec.DeletionPolicy = v1alpha1.DeletionRetain
	}
	// Nobody but the node is there to look tags up.
	ic.Spec.Resolve = v1alpha1.ResolveNode
}

func validate(ic *v1alpha1.ImageCache) field.ErrorList {
	errs := validateMeta(&ic.ObjectMeta)
	errs = append(errs, validateLists(ic.Spec.CacheSpec)...)
	errs = append(errs, validateEnums(&ic.Spec)...)
	errs = append(errs, validateNumbers(&ic.Spec)...)
	if len(errs) == 0 { // what is left are references and selectors that only a compiler understands
		_, errs = wish.Compile(ic)
	}
	return errs
}

func validateMeta(m *metav1.ObjectMeta) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("metadata")
	switch msgs := validation.IsDNS1123Subdomain(m.Name); {
	case m.Name == "":
		errs = append(errs, field.Required(at.Child("name"), "give the ImageCache a name"))
	case len(msgs) > 0:
		errs = append(errs, field.Invalid(at.Child("name"), m.Name, msgs[0]))
	}
	if msgs := validation.IsDNS1123Label(m.Namespace); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at.Child("namespace"), m.Namespace, msgs[0]))
	}
	return errs
}

func validateLists(lists []v1alpha1.CacheSpecImages) field.ErrorList {
	at := spec.Child("cacheSpec")
	switch {
	case len(lists) == 0:
		return field.ErrorList{field.Required(at, "name at least one list of images")}
	case len(lists) > maxLists:
		return field.ErrorList{field.TooMany(at, len(lists), maxLists)}
	}
	var errs field.ErrorList
	total := 0
	for i := range lists {
		total += len(lists[i].Images)
		errs = append(errs, validateImages(lists[i].Images, at.Index(i).Child("images"))...)
		errs = append(errs, validateSelector(lists[i].NodeSelector, at.Index(i).Child("nodeSelector"))...)
	}
	if total > maxImages {
		errs = append(errs, field.Invalid(spec, total, "an ImageCache may name at most 1000 images in all its lists together: split it into several ImageCaches"))
	}
	return errs
}

func validateImages(images []v1alpha1.ImageReference, at *field.Path) field.ErrorList {
	switch {
	case len(images) == 0:
		return field.ErrorList{field.Required(at, "name at least one image")}
	case len(images) > maxListImages:
		return field.ErrorList{field.TooMany(at, len(images), maxListImages)}
	}
	var errs field.ErrorList
	seen := map[v1alpha1.ImageReference]bool{}
	for i, image := range images {
		if seen[image] {
			errs = append(errs, field.Duplicate(at.Index(i), image))
		}
		seen[image] = true
		if message := imageMistake(string(image)); message != "" {
			errs = append(errs, field.Invalid(at.Index(i), string(image), message))
		}
	}
	return errs
}

var (
	upperPath = regexp.MustCompile(`/[^:@]*[A-Z]`)
	upperName = regexp.MustCompile(`^[A-Z][^/]*$`)
)

// imageMistake says what is wrong with a reference, "" for nothing: the common mistakes in
// the words of the CRD.
func imageMistake(s string) string {
	at := strings.IndexByte(s, '@')
	switch {
	case strings.Contains(s, "://"):
		return "an image reference has no scheme: write registry.example/app:v1 instead of https://registry.example/app:v1"
	case strings.Contains(s, " "):
		return "an image reference has no spaces: give each image its own list item"
	case upperPath.MatchString(s):
		return "the repository of an image reference is lowercase: write registry.example/app, not registry.example/App"
	case upperName.MatchString(s):
		return "the repository of an image reference is lowercase: write app:v1, not App:v1"
	case strings.HasSuffix(s, ":"), strings.Contains(s, ":@"):
		return "the tag of the image reference is empty: write app:v1, or leave out the colon"
	case at >= 0 && at != len(s)-len("@sha256:")-64:
		return "the digest of an image reference is sha256: and 64 lowercase hexadecimal digits"
	}
	if _, err := imageref.Parse(s); err != nil {
		return err.Error()
	}
	return ""
}

func validateSelector(labels map[string]v1alpha1.LabelValue, at *field.Path) field.ErrorList {
	if len(labels) > maxSelector {
		return field.ErrorList{field.TooMany(at, len(labels), maxSelector)}
	}
	var errs field.ErrorList
	for key, value := range labels {
		if len(validation.IsQualifiedName(key)) > 0 {
			errs = append(errs, field.Invalid(at, key, "nodeSelector keys must be label names: an optional DNS prefix and a slash, then up to 63 letters, digits, '-', '_' and '.'"))
		}
		if msgs := validation.IsValidLabelValue(string(value)); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Key(key), string(value), msgs[0]))
		}
	}
	return errs
}

func validateEnums(s *v1alpha1.ImageCacheSpec) field.ErrorList {
	var errs field.ErrorList
	for _, e := range []struct {
		name, value string
		of          []string
	}{
		{"imagePullPolicy", string(s.ImagePullPolicy), []string{"Always", "IfNotPresent"}},
		{"resolve", string(s.Resolve), []string{"Controller", "Node"}},
		{"state", string(s.State), []string{"Cached", "Suspended", "Purged"}},
		{"precheck", string(s.Precheck), []string{"Enforce", "Warn", "Off"}},
		{"pin", string(s.Pin), []string{"Always", "Never"}},
		{"deletionPolicy", string(s.DeletionPolicy), []string{"Retain", "Remove"}},
	} {
		if e.value != "" && !slices.Contains(e.of, e.value) {
			errs = append(errs, field.NotSupported(spec.Child(e.name), e.value, e.of))
		}
	}
	return errs
}

func validateNumbers(s *v1alpha1.ImageCacheSpec) field.ErrorList {
	var errs field.ErrorList
	if r := s.RefreshInterval; r != nil && r.Duration != 0 && r.Duration < leastRefresh {
		errs = append(errs, field.Invalid(spec.Child("refreshInterval"), r.Duration.String(), "refreshInterval must be 0s (no periodic refresh) or at least 10s"))
	}
	if n := s.KeepPrevious; n != nil && (*n < 0 || *n > maxPrevious) {
		errs = append(errs, field.Invalid(spec.Child("keepPrevious"), *n, "must be from 0 to 3"))
	}
	if s.Priority < -maxPriority || s.Priority > maxPriority {
		errs = append(errs, field.Invalid(spec.Child("priority"), s.Priority, "must be from -1000 to 1000"))
	}
	if len(s.ImagePullSecrets) > maxPullSecrets {
		errs = append(errs, field.TooMany(spec.Child("imagePullSecrets"), len(s.ImagePullSecrets), maxPullSecrets))
	}
	if r := s.Rollout; r != nil && r.MaxFailurePercent != nil && (*r.MaxFailurePercent < 0 || *r.MaxFailurePercent > 100) {
		errs = append(errs, field.Invalid(spec.Child("rollout", "maxFailurePercent"), *r.MaxFailurePercent, "must be from 0 to 100"))
	}
	return errs
}

// Package limits is what ImageCaches of a namespace may ask for, as whoever runs the
// controller decided.
//
// It owns the rules and their wording. Most rules read one spec: such a decision never
// changes while the ImageCache and the settings stay as they are. What the images of a
// namespace weigh concerns all of its ImageCaches, and Accounts keep it.
//
// Accounts are memory only, and may be used from any goroutine. After a restart they are
// filled from the ImageCaches' statuses, the ImageContents and the nodes' specs before
// anything is decided.
package limits

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/internal/hostglob"
)

// maxLimits is how many entries the settings may have.
const maxLimits = 256

// Limit is what the ImageCaches of some namespaces may ask for.
type Limit struct {
	// Namespaces are names of namespaces, with globs ("team-*"). At least one.
	Namespaces []string `json:"namespaces" mapstructure:"namespaces"`
	// Registries are the hosts, with globs per label ("*.corp.example:5000"), that images
	// may come from; docker.io stands for Docker Hub. Empty means all.
	Registries []string `json:"registries,omitempty" mapstructure:"registries"`
	// MaxPriority is the highest spec.priority, -1000 to 1000. Nil means 1000.
	MaxPriority *int32 `json:"maxPriority,omitempty" mapstructure:"maxPriority"`
	// MaxBytes is the most that the images of all ImageCaches of a namespace may weigh
	// together, as a quantity of bytes such as "20Gi"; "" means no limit. Each namespace
	// has it for itself. Counted are downloads: compressed bytes, of the largest platform,
	// of each digest once.
	MaxBytes string `json:"maxBytes,omitempty" mapstructure:"maxBytes"`
}

// Limits are looked up by namespace; the first entry that matches counts. A namespace
// without entry has no limits.
type Limits []Limit

// Refusal says which rule an ImageCache breaks by what its spec says, "" when it breaks none.
func (l Limits) Refusal(ic *v1alpha1.ImageCache) string {
	i, limit := l.of(ic.Namespace)
	if limit == nil {
		return ""
	}
	return told(limit.broken(&ic.Spec), i, ic.Namespace)
}

// Weighs says whether there is a limit to what the images of a namespace weigh.
func (l Limits) Weighs(namespace string) bool {
	_, limit := l.of(namespace)
	return limit != nil && limit.MaxBytes != ""
}

// of gives the entry that counts for a namespace and its place, nil when there is none.
func (l Limits) of(namespace string) (int, *Limit) {
	for i := range l {
		if l[i].concerns(namespace) {
			return i, &l[i]
		}
	}
	return 0, nil
}

// told says where a rule stands that is broken.
func told(rule string, i int, namespace string) string {
	if rule == "" {
		return ""
	}
	return fmt.Sprintf("%s (limits[%d] of the controller's settings, for namespace %s)", rule, i, namespace)
}

func (l *Limit) concerns(namespace string) bool {
	for _, pattern := range l.Namespaces {
		if ok, err := path.Match(pattern, namespace); ok && err == nil {
			return true
		}
	}
	return false
}

func (l *Limit) broken(spec *v1alpha1.ImageCacheSpec) string {
	if l.MaxPriority != nil && spec.Priority > *l.MaxPriority {
		return fmt.Sprintf("spec.priority is %d: it may be %d at most", spec.Priority, *l.MaxPriority)
	}
	if l.MaxBytes != "" && spec.Resolve == v1alpha1.ResolveNode {
		return fmt.Sprintf("spec.resolve is Node: what nodes find cannot be weighed, and the images of this namespace may have %s: set it to Controller", l.MaxBytes)
	}
	for i := range spec.CacheSpec {
		for k, image := range spec.CacheSpec[i].Images {
			ref, err := imageref.Parse(string(image))
			if err == nil && !l.allows(ref.Registry()) {
				return fmt.Sprintf("spec.cacheSpec[%d].images[%d] is from %s: images may come from %s only",
					i, k, ref.Registry(), strings.Join(l.Registries, ", "))
			}
		}
	}
	return ""
}

func (l *Limit) allows(host string) bool {
	for _, pattern := range l.Registries {
		if hostglob.Match(pattern, host) {
			return true
		}
	}
	return len(l.Registries) == 0
}

// bytes reads MaxBytes, 0 where there is none.
func (l *Limit) bytes() (int64, error) {
	if l.MaxBytes == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(l.MaxBytes)
	if n := q.Value(); err == nil && n > 0 && q.CmpInt64(n) == 0 {
		return n, nil
	}
	return 0, errors.New(`must be a whole number of bytes greater than 0, such as 20Gi, 500M or 1073741824`)
}

// Validate names what is wrong with the settings.
func (l Limits) Validate() field.ErrorList {
	at := field.NewPath("limits")
	if len(l) > maxLimits {
		return field.ErrorList{field.TooMany(at, len(l), maxLimits)}
	}
	var errs field.ErrorList
	for i := range l {
		errs = append(errs, l[i].validate(at.Index(i))...)
	}
	return errs
}

func (l *Limit) validate(at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(l.Namespaces) == 0 {
		errs = append(errs, field.Required(at.Child("namespaces"), `name at least one namespace, or "*" for all`))
	}
	for i, pattern := range l.Namespaces {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			errs = append(errs, field.Invalid(at.Child("namespaces").Index(i), pattern, `must be the name of a namespace, with * and ? as wildcards`))
		}
	}
	for i, host := range l.Registries {
		if err := hostglob.Check(host); err != nil {
			errs = append(errs, field.Invalid(at.Child("registries").Index(i), host, err.Error()))
		}
	}
	if p := l.MaxPriority; p != nil && (*p < -1000 || *p > 1000) {
		errs = append(errs, field.Invalid(at.Child("maxPriority"), *p, "must be from -1000 to 1000"))
	}
	if _, err := l.bytes(); err != nil {
		errs = append(errs, field.Invalid(at.Child("maxBytes"), l.MaxBytes, err.Error()))
	}
	return errs
}

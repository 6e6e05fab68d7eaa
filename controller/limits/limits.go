// Package limits is what ImageCaches of a namespace may ask for, as whoever runs the
// controller decided.
//
// It owns the rules and their wording. It reads specs only, so a decision never changes
// while an ImageCache and the settings stay as they are.
package limits

import (
	"fmt"
	"path"
	"strings"

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
}

// Limits are looked up by namespace; the first entry that matches counts. A namespace
// without entry has no limits.
type Limits []Limit

// Refusal says which rule an ImageCache breaks, "" when it breaks none.
func (l Limits) Refusal(ic *v1alpha1.ImageCache) string {
	for i := range l {
		if l[i].concerns(ic.Namespace) {
			if rule := l[i].broken(&ic.Spec); rule != "" {
				return fmt.Sprintf("%s (limits[%d] of the controller's settings, for namespace %s)", rule, i, ic.Namespace)
			}
			return ""
		}
	}
	return ""
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
	return errs
}

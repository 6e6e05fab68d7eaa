package args

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate says everything that is wrong, each time with the field, its value and what to write instead. Defaults are
// set before.
func Validate(a *ImageCacheLocalityArgs) error {
	var all field.ErrorList
	all = append(all, oneOf("offlinePolicy", a.OfflinePolicy, OfflineIgnore, OfflinePenalize, OfflineEnforce)...)
	all = append(all, oneOf("uplink", a.Uplink, UplinkSite, UplinkNode)...)
	all = append(all, between("maxReadyTime", a.MaxReadyTime.Duration, 10*time.Second, 24*time.Hour)...)
	all = append(all, between("equalWithin", a.EqualWithin.Duration, 100*time.Millisecond, time.Minute)...)
	if a.FadeFromPercent != nil {
		if *a.FadeFromPercent < 0 || *a.FadeFromPercent > 100 {
			all = append(all, field.Invalid(field.NewPath("fadeFromPercent"), *a.FadeFromPercent, "must be between 0 and 100"))
		}
	}
	all = append(all, atLeast("defaultBytesPerSecond", a.DefaultBytesPerSecond, 1000)...)
	all = append(all, atLeast("defaultUnpackBytesPerSecond", a.DefaultUnpackBytesPerSecond, 1000)...)
	all = append(all, oneOf("events", a.Events, EventsAll, EventsCosts, EventsOff)...)
	if a.EventsPerMinute < 1 || a.EventsPerMinute > 6000 {
		all = append(all, field.Invalid(field.NewPath("eventsPerMinute"), a.EventsPerMinute, "must be between 1 and 6000; events: Off sends none"))
	}
	if a.EqualWithin.Duration >= a.MaxReadyTime.Duration && len(all) == 0 {
		all = append(all, field.Invalid(field.NewPath("equalWithin"), a.EqualWithin.Duration.String(),
			fmt.Sprintf("must be below maxReadyTime, %s", a.MaxReadyTime.Duration)))
	}
	return all.ToAggregate()
}

func oneOf[T ~string](name string, value T, valid ...T) field.ErrorList {
	if slices.Contains(valid, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(field.NewPath(name), value, valid)}
}

func between(name string, value, low, high time.Duration) field.ErrorList {
	if value >= low && value <= high {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath(name), value.String(), fmt.Sprintf("must be between %s and %s", low, high))}
}

func atLeast(name string, value, low int64) field.ErrorList {
	if value >= low {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath(name), value, fmt.Sprintf("must be at least %d", low))}
}

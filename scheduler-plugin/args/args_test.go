package args

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	a := &ImageCacheLocalityArgs{}
	SetDefaults(a)
	if err := Validate(a); err != nil {
		t.Errorf("defaults: %v", err)
	}
	if a.OfflinePolicy != OfflinePenalize || *a.FadeFromPercent != DefaultFadeFromPercent {
		t.Errorf("defaults are %+v", a)
	}
}

func TestDefaultsKeepWhatIsGiven(t *testing.T) {
	t.Parallel()
	a := &ImageCacheLocalityArgs{OfflinePolicy: OfflineEnforce, FadeFromPercent: new(int32(0))}
	SetDefaults(a)
	if a.OfflinePolicy != OfflineEnforce || *a.FadeFromPercent != 0 {
		t.Errorf("got %+v, want what was given kept", a)
	}
}

func TestValidateNamesFieldValueAndFix(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*ImageCacheLocalityArgs)
		want   string
	}{
		"policy": {func(a *ImageCacheLocalityArgs) { a.OfflinePolicy = "Enforced" }, `offlinePolicy: Unsupported value: "Enforced": supported values: "Ignore", "Penalize", "Enforce"`},
		"uplink": {func(a *ImageCacheLocalityArgs) { a.Uplink = "Zone" }, `uplink: Unsupported value: "Zone": supported values: "Site", "Node"`},
		"max":    {func(a *ImageCacheLocalityArgs) { a.MaxReadyTime = metav1.Duration{Duration: time.Second} }, `maxReadyTime: Invalid value: "1s": must be between 10s and 24h0m0s`},
		"equal":  {func(a *ImageCacheLocalityArgs) { a.EqualWithin = metav1.Duration{Duration: -1} }, `equalWithin: Invalid value: "-1ns": must be between 100ms and 1m0s`},
		"equal > max": {func(a *ImageCacheLocalityArgs) {
			a.EqualWithin, a.MaxReadyTime = metav1.Duration{Duration: time.Minute}, metav1.Duration{Duration: 30 * time.Second}
		}, `equalWithin: Invalid value: "1m0s": must be below maxReadyTime, 30s`},
		"fade":       {func(a *ImageCacheLocalityArgs) { a.FadeFromPercent = new(int32(101)) }, `fadeFromPercent: Invalid value: 101: must be between 0 and 100`},
		"speed":      {func(a *ImageCacheLocalityArgs) { a.DefaultBytesPerSecond = 5 }, `defaultBytesPerSecond: Invalid value: 5: must be at least 1000`},
		"events":     {func(a *ImageCacheLocalityArgs) { a.Events = "None" }, `events: Unsupported value: "None": supported values: `},
		"per minute": {func(a *ImageCacheLocalityArgs) { a.EventsPerMinute = -1 }, `eventsPerMinute: Invalid value: -1: must be between 1 and 6000; events: Off sends none`},
		"unpack":     {func(a *ImageCacheLocalityArgs) { a.DefaultUnpackBytesPerSecond = -5 }, `defaultUnpackBytesPerSecond: Invalid value: -5: must be at least 1000`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &ImageCacheLocalityArgs{}
			SetDefaults(a)
			tt.change(a)
			if err := Validate(a); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate says %v, want %q", err, tt.want)
			}
		})
	}
}

func TestDeepCopyIsDeep(t *testing.T) {
	t.Parallel()
	a := &ImageCacheLocalityArgs{FadeFromPercent: new(int32(10))}
	b, ok := a.DeepCopyObject().(*ImageCacheLocalityArgs)
	if !ok {
		t.Fatal("the copy is of another type")
	}
	*b.FadeFromPercent = 20
	if *a.FadeFromPercent != 10 {
		t.Error("the copy shares fadeFromPercent")
	}
	if (*ImageCacheLocalityArgs)(nil).DeepCopyObject() != nil {
		t.Error("the copy of nothing is something")
	}
}

package args

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	configv1 "k8s.io/kube-scheduler/config/v1"
)

// AddInternal makes the type known as the scheduler's internal version of itself.
func AddInternal(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(schema.GroupVersion{Group: configv1.GroupName, Version: runtime.APIVersionInternal}, &ImageCacheLocalityArgs{})
	return nil
}

// AddV1 makes the type known, with its defaults, to the scheduler's v1 configuration.
func AddV1(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(configv1.SchemeGroupVersion, &ImageCacheLocalityArgs{})
	scheme.AddTypeDefaultingFunc(&ImageCacheLocalityArgs{}, func(obj any) {
		if a, ok := obj.(*ImageCacheLocalityArgs); ok {
			SetDefaults(a)
		}
	})
	return nil
}

// Package args is the configuration of the ImageCacheLocality plugin, as it stands under pluginConfig in a
// KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1.
//
// It owns the type with its defaults, limits and validation. One Go type serves as internal and as v1 version: there is
// nothing to convert. Unknown fields are refused by the scheduler's strict decoder. It never reads files or flags.
package args

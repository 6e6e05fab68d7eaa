// Package schedulerplugin is ImageCacheLocality, a kube-scheduler plugin that places pods where their images are ready
// soonest.
package schedulerplugin

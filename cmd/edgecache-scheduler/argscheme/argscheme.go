// Package argscheme makes kube-scheduler understand ImageCacheLocalityArgs. It is imported for that alone, by the
// scheduler's main and by tests that run the scheduler in their own process.
//
// kube-scheduler keeps two schemes: the one that reads its configuration, which is complete before any main runs, and one
// for converting arguments, which is made when it is first needed. So the type is added to the builders of both, and the
// first scheme is filled again.
package argscheme

import (
	schedulingv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"

	"edgecache.dev/scheduler-plugin/args"
)

func init() {
	config.SchemeBuilder.Register(args.AddInternal)
	schedulingv1.SchemeBuilder.Register(args.AddV1)
	scheme.AddToScheme(scheme.Scheme)
}

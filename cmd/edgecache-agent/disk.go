package main

import (
	"context"

	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/reserve"
)

// keepFreeAlone is what stays free where no kubelet looks after the disk.
var keepFreeAlone = reserve.Reserve{Percent: 5}

// keepFree is what pulls leave free of the image file system: what is set, else what the
// kubelet's thresholds ask for, where there is one.
func keepFree(ctx context.Context, c *config) reserve.Reserve {
	if r, err := reserve.Parse(c.DiskReserve); c.DiskReserve != "" && err == nil { // Validate has seen to it
		return r
	}
	if c.Runtime == runtimeLayout {
		return keepFreeAlone
	}
	r, err := reserve.FromKubelet(c.KubeletConfig)
	if err != nil {
		klog.FromContext(ctx).Error(err, "The kubelet's defaults are used for what stays free of the disk; set --disk-reserve for another figure")
	}
	return r
}

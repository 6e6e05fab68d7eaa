package main

import "edgecache.dev/edgeagent/offlinestart"

// kubelet reads the kubelet's configuration anew each time; nil where no kubelet starts
// containers from the images.
func (c *config) kubelet() func() offlinestart.Kubelet {
	if c.Runtime == runtimeLayout {
		return nil
	}
	return func() offlinestart.Kubelet { return offlinestart.ReadKubelet(c.KubeletConfig) }
}

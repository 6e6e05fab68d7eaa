package offlinestart

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/runtime"
)

// Input is all that the judgement depends on.
type Input struct {
	Kubelet   Kubelet
	Runtime   runtime.Info
	Inventory runtime.Inventory
	// Wished are the images that the node should hold.
	Wished []imageref.Reference
}

// risk is one thing that may keep pods from starting, and what to do about it.
type risk struct{ reason, message string }

// Assess gives the condition OfflineStartAtRisk. Its reason is that of the gravest risk; its
// message has them all.
func Assess(in Input) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.NodeConditionOfflineStartAtRisk, Status: metav1.ConditionFalse,
		Reason: v1alpha1.ReasonNoRiskFound, Message: "nothing is known that would keep pods from starting without a registry",
	}
	risks := in.risks()
	switch {
	case len(risks) > 0:
		c.Status, c.Reason = metav1.ConditionTrue, risks[0].reason
		var messages []string
		for _, r := range risks {
			messages = append(messages, r.message)
		}
		c.Message = strings.Join(messages, "; ")
	case in.Kubelet.Unread != nil:
		c.Status, c.Reason = metav1.ConditionUnknown, v1alpha1.ReasonKubeletConfigUnread
		c.Message = fmt.Sprintf("whether the kubelet asks registries before pods start is not known (%v): set kubeletConfig of the agent to its configuration file", in.Kubelet.Unread)
	}
	return c
}

// risks gives what is wrong, the gravest first.
func (in *Input) risks() []risk {
	var out []risk
	if r, ok := in.sandbox(); ok {
		out = append(out, r)
	}
	if lazy := in.those(func(ref imageref.Reference) bool { return in.Inventory[ref].Lazy }); len(lazy) > 0 {
		out = append(out, risk{
			v1alpha1.ReasonLazyContent,
			some(lazy) + ": a lazy snapshotter fetches the files when they are read; remove the image from the node (crictl rmi), and it is brought whole",
		})
	}
	if asked := in.those(in.Kubelet.asks); len(asked) > 0 {
		out = append(out, risk{v1alpha1.ReasonCredentialsVerified, fmt.Sprintf(
			"%s: the kubelet asks the registry before a pod starts from an image that is there (imagePullCredentialsVerificationPolicy: %s in %s); set it to NeverVerifyPreloadedImages, or list the images in preloadedImagesVerificationAllowlist",
			some(asked), in.Kubelet.policy, in.Kubelet.File)})
	}
	if in.Runtime.Unsynced {
		out = append(out, risk{v1alpha1.ReasonPullsNotSynced, fmt.Sprintf(
			"a power cut may damage images after they are pulled: %s does not sync them to disk, and the agent does not see its directory %s; let the agent see it, or use the driver containerd",
			in.Runtime.Name, in.Runtime.Root)})
	}
	return out
}

// sandbox says whether the image of pod sandboxes is known, and missing.
func (in *Input) sandbox() (risk, bool) {
	image := in.Runtime.SandboxImage
	if image.IsZero() || in.Inventory[image].Complete {
		return risk{}, false
	}
	return risk{v1alpha1.ReasonSandboxImageMissing, fmt.Sprintf(
		"%s, which every pod needs, is not on the node: let the controller hold it (--sandbox-image), or name it in an ImageCache", image)}, true
}

func (in *Input) those(is func(imageref.Reference) bool) (images []string) {
	for _, ref := range in.Wished {
		if is(ref) {
			images = append(images, ref.String())
		}
	}
	slices.Sort(images)
	return images
}

// some names a few images: a message is no list.
func some(images []string) string {
	const most = 3
	if n := len(images) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(images[:most], ", "), n)
	}
	return strings.Join(images, ", ")
}

package credentials

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
)

const (
	// policyName is the policy, and its binding, that hold an agent to its own node's
	// object: edgeagent/admission.yaml.
	policyName = "edgecache-agent"
	guardEvery = time.Minute
)

// Guard knows whether agents are held to their own objects. Without that any agent could
// publish a key of its own in another node's status, and be sent that node's credentials.
type Guard struct {
	Client kubernetes.Interface
	// Changed is told when the answer changes.
	Changed func()

	holds atomic.Bool
}

// Holds says whether the policy and its binding were there when last looked for.
func (g *Guard) Holds() bool { return g.holds.Load() }

// Run looks from time to time until the context ends.
func (g *Guard) Run(ctx context.Context) {
	ticker := time.NewTicker(guardEvery)
	defer ticker.Stop()
	for {
		g.Look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Look looks once. Who cannot look does not know that they are there.
func (g *Guard) Look(ctx context.Context) {
	holds, err := g.look(ctx)
	if ctx.Err() != nil {
		return
	}
	if g.holds.Swap(holds) == holds {
		return
	}
	klog.FromContext(ctx).Info("Sealing of pull credentials", "enabled", holds, "policy", policyName, "err", err)
	g.Changed()
}

func (g *Guard) look(ctx context.Context) (bool, error) {
	api := g.Client.AdmissionregistrationV1()
	policy, err := api.ValidatingAdmissionPolicies().Get(ctx, policyName, metav1.GetOptions{})
	if err != nil {
		return false, err //nolint:wrapcheck // it names the policy
	}
	binding, err := api.ValidatingAdmissionPolicyBindings().Get(ctx, policyName, metav1.GetOptions{})
	if err != nil {
		return false, err //nolint:wrapcheck // it names the binding
	}
	return enforces(policy, binding), nil
}

// enforces says whether requests that break the policy are refused.
func enforces(policy *admissionv1.ValidatingAdmissionPolicy, binding *admissionv1.ValidatingAdmissionPolicyBinding) bool {
	fails := policy.Spec.FailurePolicy == nil || *policy.Spec.FailurePolicy == admissionv1.Fail
	return fails && binding.Spec.PolicyName == policy.Name && binding.Spec.MatchResources == nil &&
		slices.Contains(binding.Spec.ValidationActions, admissionv1.Deny)
}

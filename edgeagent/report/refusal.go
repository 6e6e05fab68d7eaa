package report

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
)

// complain logs why a write failed. That the API server is away is the daily round at the
// edge; that it refuses is for somebody to put right.
func complain(ctx context.Context, err error, what string) {
	switch {
	case ctx.Err() != nil:
	case refused(err):
		klog.FromContext(ctx).Error(err, what+": check the agent's token and --node-name; trying again")
	default:
		klog.FromContext(ctx).V(1).Info(what+", trying again", "err", err)
	}
}

func refused(err error) bool {
	return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) || apierrors.IsInvalid(err)
}

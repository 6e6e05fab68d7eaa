package report

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestRefused(t *testing.T) {
	t.Parallel()
	leases := schema.GroupResource{Resource: "leases"}
	for what, tc := range map[string]struct {
		err  error
		want bool
	}{
		"away":            {errors.New("dial tcp: connection refused"), false},
		"overloaded":      {apierrors.NewTooManyRequests("later", 1), false},
		"gone":            {apierrors.NewNotFound(leases, "node-1"), false},
		"not let in":      {apierrors.NewUnauthorized("token expired"), true},
		"of another node": {fmt.Errorf("renewing: %w", apierrors.NewForbidden(leases, "node-2", errors.New("not yours"))), true},
	} {
		if got := refused(tc.err); got != tc.want {
			t.Errorf("%s: refused %v, want %v", what, got, tc.want)
		}
	}
}

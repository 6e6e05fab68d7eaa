package reserve

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Reserve is how much of a file system stays free: the larger of a share and a number of
// bytes. The zero value is nothing.
type Reserve struct {
	// Percent of the capacity, 0 to 100.
	Percent float64
	// Bytes, whatever the capacity.
	Bytes int64
}

// Of gives the bytes that stay free of a file system with a capacity in bytes.
func (r Reserve) Of(capacity int64) int64 {
	return min(max(int64(r.Percent/100*float64(capacity)), r.Bytes), capacity)
}

// Parse reads a setting: a share such as "10%", or bytes such as "2Gi" or "500M".
func Parse(s string) (Reserve, error) {
	if share, ok := strings.CutSuffix(s, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p >= 0 && p < 100) {
			return Reserve{}, fmt.Errorf("%q is no share of a file system: want a number from 0 to below 100 and %%, such as 10%%", s)
		}
		return Reserve{Percent: p}, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() < 0 {
		return Reserve{}, fmt.Errorf("%q is no number of bytes: want one such as 2Gi or 500M, or a share such as 10%%", s)
	}
	return Reserve{Bytes: q.Value()}, nil
}

// either keeps clear of both.
func (r Reserve) either(o Reserve) Reserve {
	return Reserve{Percent: max(r.Percent, o.Percent), Bytes: max(r.Bytes, o.Bytes)}
}

package limits

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"edgecache.dev/api/wish"
)

// weights are sizes of digests in words: "a:10 b:5".
var weights = map[digest.Digest]int64{"a": 10, "b": 5, "c": 5, "d": 1, "huge": math.MaxInt64, "lost": 0}

func weight(d digest.Digest) int64 { return weights[d] }

// claim is an ImageCache made at a time, with what it names and what nodes hold of it.
func claim(owner wish.Owner, made int64, named, held string) Claim {
	return Claim{Owner: owner, Created: time.Unix(made, 0), Named: set(named), Held: set(held)}
}

func set(words string) map[digest.Digest]bool {
	m := map[digest.Digest]bool{}
	for w := range strings.FieldsSeq(words) {
		m[digest.Digest(w)] = true
	}
	return m
}

func TestOverweight(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		claims []Claim
		most   int64
		want   map[wish.Owner]excess
	}{
		"nothing":                        {nil, 1, nil},
		"all fits exactly":               {[]Claim{claim("n/x", 1, "a b", ""), claim("n/y", 2, "c", "")}, 20, nil},
		"a byte too much":                {[]Claim{claim("n/x", 1, "a b", ""), claim("n/y", 2, "c d", "")}, 20, map[wish.Owner]excess{"n/y": {15, 21}}},
		"the older one comes first":      {[]Claim{claim("n/x", 2, "a", ""), claim("n/y", 1, "b c", "")}, 10, map[wish.Owner]excess{"n/x": {10, 20}}},
		"of one age, the name decides":   {[]Claim{claim("n/y", 1, "a", ""), claim("n/x", 1, "b c", "")}, 10, map[wish.Owner]excess{"n/y": {10, 20}}},
		"a digest counts once":           {[]Claim{claim("n/x", 1, "a b", ""), claim("n/y", 2, "a b", "")}, 15, nil},
		"a smaller one still fits":       {[]Claim{claim("n/x", 1, "a", ""), claim("n/y", 2, "b c", ""), claim("n/z", 3, "d", "")}, 11, map[wish.Owner]excess{"n/y": {10, 20}}},
		"alone too much":                 {[]Claim{claim("n/x", 1, "a", "")}, 9, map[wish.Owner]excess{"n/x": {0, 10}}},
		"unknown sizes are nothing yet":  {[]Claim{claim("n/x", 1, "a", ""), claim("n/y", 2, "lost", "")}, 10, nil},
		"what a refused one keeps":       {[]Claim{claim("n/x", 1, "a b", "a"), claim("n/y", 2, "c", "")}, 14, map[wish.Owner]excess{"n/x": {0, 15}, "n/y": {10, 15}}},
		"what an admitted one gives up":  {[]Claim{claim("n/x", 1, "b", "a"), claim("n/y", 2, "c", "")}, 10, nil},
		"sums do not overflow":           {[]Claim{claim("n/x", 1, "huge a", "")}, math.MaxInt64 - 1, map[wish.Owner]excess{"n/x": {0, math.MaxInt64}}},
		"what adds nothing always fits":  {[]Claim{claim("n/x", 1, "a b", "a b"), claim("n/y", 2, "a", "")}, 10, map[wish.Owner]excess{"n/x": {0, 15}}},
		"an older one that grew goes in": {[]Claim{claim("n/x", 1, "a b", "a"), claim("n/y", 2, "c", "c")}, 15, map[wish.Owner]excess{"n/y": {15, 20}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.want == nil {
				tc.want = map[wish.Owner]excess{}
			}
			slices.Reverse(tc.claims) // the order in which they come does not matter
			if got := overweight(tc.claims, tc.most, weight); !maps.Equal(got, tc.want) {
				t.Errorf("refused %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	known := maps.Clone(weights)
	a := NewAccounts(Limits{{Namespaces: []string{"n", "m"}, MaxBytes: "15"}}, func(d digest.Digest) int64 { return known[d] })
	put := func(c Claim) []wish.Owner { a.Put(c); return a.Decide(c.Owner.Namespace()) }
	drop := func(o wish.Owner) []wish.Owner { a.Drop(o); return a.Decide(o.Namespace()) }
	expect := func(what string, got []wish.Owner, want ...wish.Owner) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: decisions changed (-want +got):\n%s", what, diff)
		}
	}
	expect("the first", put(claim("n/x", 1, "a", "")))
	expect("another namespace", put(claim("m/x", 1, "a b", "")))
	expect("too much", put(claim("n/y", 2, "b c", "")), "n/y")
	expect("nothing new", put(claim("n/y", 2, "b c", "")))
	if rule := a.Refusal("n/y"); !strings.Contains(rule, "maxBytes is 15, 15 bytes: older ImageCaches of the namespace have 10 bytes, with the images of this one they would have 20. ") ||
		!strings.HasSuffix(rule, " (limits[0] of the controller's settings, for namespace n)") {
		t.Errorf("refusal %q", rule)
	}
	if !a.Covers("n/x", "a") || a.Covers("n/x", "b") || a.Covers("n/y", "b") || a.Covers("n/new", "a") {
		t.Error("covers what was not weighed or does not fit, or not what fits")
	}
	expect("a younger one that fits", put(claim("n/z", 3, "b", "")))
	expect("the oldest shrinks", put(claim("n/x", 1, "b", "")), "n/y")
	expect("it holds what it gave up", put(claim("n/x", 1, "b", "a")))
	expect("the oldest grows", put(claim("n/x", 1, "a b", "")), "n/y")
	expect("what a refused one holds", put(claim("n/y", 2, "b c", "d")))
	expect("which leaves too little", put(claim("n/z", 3, "c", "")), "n/z")
	expect("the oldest goes", drop("n/x"), "n/y", "n/z")
	expect("it went before", drop("n/x"))

	expect("a size that is not known", put(claim("n/x", 1, "lost", "")))
	known["lost"] = 10
	expect("it is known now", a.Sized("lost"), "n/y", "n/z")
	expect("it was known before", a.Sized("lost"))
	expect("nobody names it", a.Sized("other"))
	for _, o := range []wish.Owner{"n/x", "n/y", "n/z", "m/x"} {
		drop(o)
	}
	if len(a.namespaces) != 0 {
		t.Errorf("%d namespaces are remembered", len(a.namespaces))
	}

	expect("a namespace without limit", put(claim("free/x", 1, "huge", "")))
	if !a.Covers("free/x", "huge") || a.Refusal("free/x") != "" {
		t.Error("a namespace without limit is weighed")
	}
}

package caches

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/imageref"
	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/controller/fleet"
	"edgecache.dev/controller/nodes"
)

var d1, d2 = digestOf('1'), digestOf('2')

// fleetOf is a fleet in words: each letter is a node with one image.
//
//	C cached   P pulling   F failed   O holds another digest
//	in lower case the node is unreachable, behind ! it has no agent
const legend = "CPFO"

// TestTruthTable is the table of docs/status.md.
func TestTruthTable(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fleet      string
		state      v1alpha1.CacheState
		unresolved *v1alpha1.ImageCheck // of the image, instead of a digest
		noCheck    bool                 // the image was not looked up yet
		want       string               // Ready FullyCached Reconciling
		ready      string               // summary
	}{
		"no node selected":            {fleet: "", want: "True/NoNodesSelected True/NoNodesSelected -", ready: "0/0"},
		"all cached":                  {fleet: "CC", want: "True/AllCached True/AllCached -", ready: "2/2"},
		"one pulling":                 {fleet: "CP", want: "False/Progressing False/Progressing Progressing", ready: "1/2"},
		"one at another digest":       {fleet: "CO", want: "False/Progressing False/Progressing Progressing", ready: "1/2"},
		"one failed":                  {fleet: "CF", want: "False/ImagesFailing False/Progressing ImagesFailing", ready: "1/2"},
		"one dark that holds it":      {fleet: "Cc", want: "True/AllCached True/AllCached -", ready: "1/2"},
		"one dark that does not":      {fleet: "Cp", want: "True/AllCached False/NodesUnreachable -", ready: "1/2"},
		"one dark that failed before": {fleet: "Cf", want: "True/AllCached False/NodesUnreachable -", ready: "1/2"},
		"one without agent":           {fleet: "C!P", want: "True/AllCached False/NodesUnreachable -", ready: "1/2"},
		"all dark":                    {fleet: "cc", want: "Unknown/NoNodeReachable True/AllCached NoNodeReachable", ready: "0/2"},
		"all without agent":           {fleet: "!P!P", want: "Unknown/NoNodeReachable False/NodesUnreachable NoNodeReachable", ready: "0/2"},
		"not looked up yet":           {fleet: "PP", noCheck: true, want: "False/Unresolved False/Unresolved Unresolved", ready: "0/2"},
		"not pullable":                {fleet: "PP", unresolved: check(v1alpha1.VerdictNotPullable, "NotFound"), want: "False/NotPullable False/NotPullable NotPullable", ready: "0/2"},
		"registry does not answer":    {fleet: "PP", unresolved: check(v1alpha1.VerdictInconclusive, "NetworkError"), want: "False/Inconclusive False/Inconclusive Inconclusive", ready: "0/2"},
		"reference does not parse":    {fleet: "PP", unresolved: check(v1alpha1.VerdictNotPullable, "InvalidReference"), want: "False/InvalidReference False/InvalidReference InvalidReference", ready: "0/2"},
		"suspended, all cached":       {fleet: "CC", state: v1alpha1.StateSuspended, want: "True/Suspended True/AllCached -", ready: "2/2"},
		"suspended, one missing":      {fleet: "CP", state: v1alpha1.StateSuspended, want: "False/Suspended False/Progressing -", ready: "1/2"},
		"purged":                      {fleet: "CC", state: v1alpha1.StatePurged, want: "True/Purged False/Purged -", ready: "2/2"},
		"purging":                     {fleet: "CP", state: v1alpha1.StatePurged, want: "False/Purging False/Purged Purging", ready: "1/2"},
		"purged but for a dark node":  {fleet: "Cp", state: v1alpha1.StatePurged, want: "True/Purged False/Purged -", ready: "1/2"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := factsOf(tc.fleet)
			f.ic.Spec.State = tc.state
			if tc.unresolved != nil || tc.noCheck {
				f.images[0].target, f.images[0].check = "", tc.unresolved
			}
			s := f.status()
			if got := conditions(s); got != tc.want {
				t.Errorf("Ready FullyCached Reconciling = %q, want %q", got, tc.want)
			}
			if s.Summary.Ready != tc.ready {
				t.Errorf("summary %q, want %q", s.Summary.Ready, tc.ready)
			}
			n := s.Nodes
			if n.Ready+n.Updating+n.Failed+n.Unreachable+n.NoAgent != n.Selected {
				t.Errorf("counts do not add up: %+v", n)
			}
			for _, c := range s.Conditions {
				if c.ObservedGeneration != f.ic.Generation || c.Message == "" {
					t.Errorf("condition %s: generation %d, message %q", c.Type, c.ObservedGeneration, c.Message)
				}
			}
		})
	}
}

func TestPullable(t *testing.T) {
	t.Parallel()
	good, bad, silent := check(v1alpha1.VerdictPullable, ""), check(v1alpha1.VerdictNotPullable, "NotFound"), check(v1alpha1.VerdictInconclusive, "NetworkError")
	tests := map[string]struct {
		checks []*v1alpha1.ImageCheck
		want   string
	}{
		"all good":                       {[]*v1alpha1.ImageCheck{good, good}, "True AllPullable: all 2 images were found in their registries"},
		"one bad beats one silent":       {[]*v1alpha1.ImageCheck{good, silent, bad}, "False NotPullable: r.io/img2: NotFound: said so"},
		"one silent beats one not asked": {[]*v1alpha1.ImageCheck{nil, silent}, "Unknown Inconclusive: r.io/img1: NetworkError: said so"},
		"one not asked":                  {[]*v1alpha1.ImageCheck{good, nil}, "Unknown NotChecked: r.io/img1 was not looked up yet"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := facts{ic: &v1alpha1.ImageCache{}}
			for i, c := range tc.checks {
				f.images = append(f.images, image{name: fmt.Sprintf("r.io/img%d", i), check: c})
			}
			v := f.pullable()
			if got := fmt.Sprintf("%s %s: %s", v.status, v.reason, v.message); got != tc.want {
				t.Errorf("pullable = %q, want %q", got, tc.want)
			}
		})
	}
}

// TestPullableSaysWhatNodesAreTold of an image that is not, or not known to be.
func TestPullableSaysWhatNodesAreTold(t *testing.T) {
	t.Parallel()
	bad, silent := check(v1alpha1.VerdictNotPullable, "BlobMissing"), check(v1alpha1.VerdictInconclusive, "NetworkError")
	ref := mustParse("r.io/img:v1")
	for _, tc := range []struct {
		precheck v1alpha1.PrecheckMode
		check    *v1alpha1.ImageCheck
		target   digest.Digest
		want     string
	}{
		{v1alpha1.PrecheckEnforce, bad, "", "False NotPullable: r.io/img:v1: BlobMissing: said so"},
		{v1alpha1.PrecheckEnforce, bad, "sha256:1", "False NotPullable: r.io/img:v1: BlobMissing: said so; nodes keep what they have"},
		{v1alpha1.PrecheckWarn, bad, "sha256:1", "False NotPullable: r.io/img:v1: BlobMissing: said so; nodes are told of it all the same, as spec.precheck is Warn"},
		{v1alpha1.PrecheckEnforce, silent, "sha256:1", "Unknown Inconclusive: r.io/img:v1: NetworkError: said so; nodes go by the digest that is known"},
		{v1alpha1.PrecheckOff, nil, "sha256:1", "Unknown NotChecked: not checked: spec.precheck is Off"},
	} {
		f := facts{ic: &v1alpha1.ImageCache{}, images: []image{{name: ref.String(), ref: ref, check: tc.check, target: tc.target}}}
		f.ic.Spec.Precheck = tc.precheck
		v := f.pullable()
		if got := fmt.Sprintf("%s %s: %s", v.status, v.reason, v.message); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.precheck, got, tc.want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	f := factsOf("CC")
	f.refusal = fleet.Refusal{Reason: v1alpha1.ReasonNotAllowed, Message: "spec.priority is 7: it may be 5 at most"}
	s := f.status()
	if got := conditions(s); got != "False/NotAllowed True/AllCached -" {
		t.Errorf("conditions = %q", got)
	}
	if !strings.Contains(s.Conditions[len(s.Conditions)-1].Message, "may be 5 at most") {
		t.Errorf("Stalled does not say what to do: %+v", s.Conditions)
	}
}

func TestFailuresAreNewestFirstAndBounded(t *testing.T) {
	t.Parallel()
	f := factsOf(strings.Repeat("F", 3*maxFailures+5))
	s := f.status()
	if len(s.Failures) != maxFailures || int(s.FailureCount) != 3*maxFailures+5 {
		t.Fatalf("%d failures of %d", len(s.Failures), s.FailureCount)
	}
	if s.Failures[0].Node != "node-64" || s.Failures[maxFailures-1].Node != "node-45" {
		t.Errorf("from %s to %s, want the newest 20: node-64 to node-45", s.Failures[0].Node, s.Failures[maxFailures-1].Node)
	}
}

func TestUnchangedStatusKeepsTimes(t *testing.T) {
	t.Parallel()
	f := factsOf("CP")
	f.ic.Status = f.status()
	for i := range f.ic.Status.Conditions {
		f.ic.Status.Conditions[i].LastTransitionTime = metav1.NewTime(time.Unix(1000, 0))
	}
	if diff := cmp.Diff(f.ic.Status, f.status()); diff != "" {
		t.Errorf("the same facts give another status:\n%s", diff)
	}
}

// factsOf reads a fleet in words.
func factsOf(nodes string) *facts {
	ref := mustParse("r.io/app:v1")
	f := &facts{
		observed: 3,

		ic:     &v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{Generation: 3}},
		images: []image{{name: ref.String(), ref: ref, target: d1, check: check(v1alpha1.VerdictPullable, "")}},
	}
	f.tally.aims.fleet = func(imageref.Reference) digest.Digest { return d1 }
	images := f.tally.lists([][]imageref.Reference{{ref}}, "")[0]
	reach, n := fleet.Connected, 0
	for _, letter := range nodes {
		if letter == '!' {
			reach = fleet.NoAgent
			continue
		}
		if reach == fleet.Connected && !strings.ContainsRune(legend, letter) {
			reach = fleet.Unreachable
		}
		object := nodeObject(ref, strings.ToUpper(string(letter)), n)
		f.tally.count(member{name: fmt.Sprintf("node-%d", n), reach: reach, images: images, object: object}, holding)
		reach = fleet.Connected
		n++
	}
	return f
}

func nodeObject(ref imageref.Reference, letter string, n int) *v1alpha1.NodeImageCache {
	st := v1alpha1.NodeImageStatus{Name: ref.String(), Digest: d1.String(), Since: new(metav1.NewTime(time.Unix(int64(n), 0)))}
	switch letter {
	case "C":
		st.Phase = v1alpha1.PhaseCached
	case "P":
		st.Phase = v1alpha1.PhasePulling
	case "F":
		st.Phase, st.Reason, st.Message = v1alpha1.PhaseFailed, "NetworkError", "connection refused"
	case "O":
		st.Phase, st.Digest = v1alpha1.PhaseCached, d2.String()
	}
	return &v1alpha1.NodeImageCache{Status: v1alpha1.NodeImageCacheStatus{Images: []v1alpha1.NodeImageStatus{st}}}
}

func TestPurgedJudge(t *testing.T) {
	t.Parallel()
	image := &subject{name: "r.io/app:v1"}
	far := purged("ns/a")
	tests := map[string]struct {
		spec v1alpha1.NodeImageCacheSpec
		want outcome
	}{
		"gone":                       {v1alpha1.NodeImageCacheSpec{}, done},
		"still wished on its behalf": {v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.NodeImage{{Name: image.name, Owners: []string{"ns/a"}}}}, updating},
		"being removed":              {v1alpha1.NodeImageCacheSpec{Remove: []v1alpha1.RemoveImage{{Name: image.name}}}, updating},
		"wished by another cache":    {v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.NodeImage{{Name: image.name, Owners: []string{"ns/b"}}}}, done},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, _ := far(&v1alpha1.NodeImageCache{Spec: tc.spec}, image); got != tc.want {
				t.Errorf("outcome %d, want %d", got, tc.want)
			}
		})
	}
	if got, _ := far(nil, image); got != done {
		t.Errorf("a node without object: %d, want done", got)
	}
}

func TestCrowdedOut(t *testing.T) {
	t.Parallel()
	far := func(object *v1alpha1.NodeImageCache, name string) (outcome, *v1alpha1.NodeImageStatus) {
		return holding(object, &subject{name: name, want: d1.String()})
	}
	object := &v1alpha1.NodeImageCache{}
	for i := range nodes.MaxImages {
		object.Spec.Images = append(object.Spec.Images, v1alpha1.NodeImage{Name: fmt.Sprintf("r.io/app:v%04d", i)})
	}
	if o, why := far(object, "r.io/other:v1"); o != failed || why.Reason != v1alpha1.ReasonNodeLimit || !strings.Contains(why.Message, "priority") {
		t.Errorf("an image without place: %d, %+v", o, why)
	}
	if o, _ := far(object, "r.io/app:v0007"); o != updating {
		t.Errorf("an image with a place: %d, want updating", o)
	}
	object.Spec.Images = object.Spec.Images[1:]
	if o, _ := far(object, "r.io/other:v1"); o != updating {
		t.Errorf("an image that will have a place: %d, want updating", o)
	}
}

func TestRoundsAskAgain(t *testing.T) {
	t.Parallel()
	tag, pinned := mustParse("r.io/app:v1"), mustParse("r.io/app@"+d1.String())
	begin := time.Unix(1000, 0)
	ic := &v1alpha1.ImageCache{ObjectMeta: metav1.ObjectMeta{UID: "u", Generation: 1}}
	r := new(rounds).of(ic, begin)
	if due := r.due(begin); due > v1alpha1.DefaultRefresh || due <= 0 {
		t.Errorf("the first refresh is due in %s, want within %s", due, v1alpha1.DefaultRefresh)
	}
	if tags, asked := r.again(ic, begin); asked || tags(tag) {
		t.Error("a cache that is new is looked up twice")
	}
	ic.Generation = 2
	if tags, asked := r.again(ic, begin); !asked || !tags(tag) || tags(pinned) {
		t.Errorf("after an edit: missing %v, tag %v, digest %v", asked, tags(tag), tags(pinned))
	}
	ic.Annotations = map[string]string{v1alpha1.AnnotationRequestedAt: "now"}
	if tags, asked := r.again(ic, begin); !asked || !tags(tag) {
		t.Errorf("on demand: missing %v, tag %v", asked, tags(tag))
	}
	if tags, asked := r.again(ic, begin.Add(v1alpha1.DefaultRefresh)); asked || tags(tag) || !tags(mustParse("r.io/app:latest")) {
		t.Errorf("a periodic refresh asks for what was refused (%v), or not for what moves", asked)
	}
}

func conditions(s v1alpha1.ImageCacheStatus) string {
	parts := map[string]string{v1alpha1.ConditionReconciling: "-"}
	for _, c := range s.Conditions {
		parts[c.Type] = string(c.Status) + "/" + c.Reason
		if c.Type == v1alpha1.ConditionReconciling {
			parts[c.Type] = c.Reason
		}
	}
	return parts[v1alpha1.ConditionReady] + " " + parts[v1alpha1.ConditionFullyCached] + " " + parts[v1alpha1.ConditionReconciling]
}

func check(v v1alpha1.Verdict, reason string) *v1alpha1.ImageCheck {
	c := &v1alpha1.ImageCheck{Verdict: v, Reason: reason}
	if reason != "" {
		c.Message = "said so"
	}
	return c
}

func digestOf(c byte) digest.Digest { return digest.Digest("sha256:" + strings.Repeat(string(c), 64)) }

func mustParse(s string) imageref.Reference {
	r, err := imageref.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

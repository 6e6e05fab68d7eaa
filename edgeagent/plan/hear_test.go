package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
)

func TestHear(t *testing.T) {
	t.Parallel()
	app, db := image("r.io/app:v1", d1), image("r.io/db:v1", d2)
	before := store.Desired{UID: "a", Generation: 7, Known: true, Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "n", Images: []v1alpha1.NodeImage{app}}}
	gone := store.Desired{UID: "a", Generation: 7, Spec: before.Spec}
	before.Spec.Remove = []v1alpha1.RemoveImage{{Name: "r.io/old:v1", Digest: d2.String()}}
	object := func(nodeUID string, images ...v1alpha1.NodeImage) *v1alpha1.NodeImageCache {
		return &v1alpha1.NodeImageCache{
			ObjectMeta: metav1.ObjectMeta{UID: "b", Generation: 1, OwnerReferences: []metav1.OwnerReference{{Kind: "Node", UID: "n2"}}},
			Spec:       v1alpha1.NodeImageCacheSpec{NodeUID: nodeUID, Images: images},
		}
	}
	removing := func(name string) *v1alpha1.NodeImageCache {
		o := object("")
		o.Spec.Remove = []v1alpha1.RemoveImage{{Name: name, Digest: d1.String()}}
		return o
	}
	tests := map[string]struct {
		object *v1alpha1.NodeImageCache
		want   store.Desired
	}{
		"the object is gone, its removals too": {nil, gone},
		"a new object, the wish not worked out": {
			object(""), store.Desired{UID: "b", NodeUID: "n2", Generation: 1, Held: []v1alpha1.NodeImage{app}},
		},
		"a new object, worked out in part": {
			object("", app, db),
			store.Desired{UID: "b", NodeUID: "n2", Generation: 1, Spec: v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.NodeImage{app, db}}},
		},
		"a new object that removes what was wished before": {
			removing("r.io/app:v1"), store.Desired{UID: "b", NodeUID: "n2", Generation: 1, Spec: removing("r.io/app:v1").Spec},
		},
		"a new object, the wish worked out": {
			object("n2", db),
			store.Desired{UID: "b", NodeUID: "n2", Generation: 1, Known: true, Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "n2", Images: []v1alpha1.NodeImage{db}}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, Hear(before, tc.object), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("desired (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHeardCredentialsAreHeld: as long as the images that need them.
func TestHeardCredentialsAreHeld(t *testing.T) {
	t.Parallel()
	sealed := []v1alpha1.SealedCredential{{ID: "c", Match: "r.io", Sealed: []byte{1}}}
	d := store.Desired{UID: "a", NodeUID: "n", Known: true, Spec: v1alpha1.NodeImageCacheSpec{
		NodeUID: "n", Images: []v1alpha1.NodeImage{image("r.io/app:v1", d1)}, Credentials: sealed,
	}}
	if d = Hear(d, nil); !cmp.Equal(d.Spec.Credentials, sealed) {
		t.Errorf("without an object: %+v", d.Spec.Credentials)
	}
	object := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{UID: "b", Generation: 1}}
	for range 2 { // also when the same is heard again
		if d = Hear(d, object); !cmp.Equal(d.HeldCredentials, sealed) || d.HeldNodeUID != "n" {
			t.Errorf("with an object that says nothing: %+v for %q", d.HeldCredentials, d.HeldNodeUID)
		}
	}
	object.Spec.NodeUID = "n"
	if d = Hear(d, object); d.HeldCredentials != nil || d.HeldNodeUID != "" {
		t.Errorf("with an object that speaks: %+v for %q", d.HeldCredentials, d.HeldNodeUID)
	}
}

// TestCredentialsOfAPartAreHeld: also those of an object whose wish was never whole, for as
// long as another object says nothing of the images.
func TestCredentialsOfAPartAreHeld(t *testing.T) {
	t.Parallel()
	object := func(uid string, ids ...string) *v1alpha1.NodeImageCache {
		o := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{
			UID: types.UID(uid), OwnerReferences: []metav1.OwnerReference{{Kind: "Node", UID: types.UID("node-" + uid)}},
		}}
		for _, id := range ids {
			o.Spec.Images = append(o.Spec.Images, v1alpha1.NodeImage{Name: "r.io/" + id + ":v1", Digest: d1.String(), CredentialIDs: []string{id}})
			o.Spec.Credentials = append(o.Spec.Credentials, v1alpha1.SealedCredential{ID: id, Match: "r.io"})
		}
		return o
	}
	tests := map[string]struct {
		heard   []*v1alpha1.NodeImageCache
		held    string
		nodeUID string
	}{
		"its own are not held":                {heard: []*v1alpha1.NodeImageCache{object("a", "x"), object("a", "x")}},
		"another object":                      {[]*v1alpha1.NodeImageCache{object("a", "x"), object("b")}, "x", "node-a"},
		"none for a while":                    {[]*v1alpha1.NodeImageCache{object("a", "x"), nil, object("b")}, "x", "node-a"},
		"heard again, with some of its own":   {[]*v1alpha1.NodeImageCache{object("a", "x"), object("b"), object("b", "y")}, "x", "node-a"},
		"a third, the second without any":     {[]*v1alpha1.NodeImageCache{object("a", "x"), object("b"), object("c")}, "x", "node-a"},
		"a third, the second with its own":    {[]*v1alpha1.NodeImageCache{object("a", "x"), object("b", "x"), object("c")}, "x", "node-b"},
		"a first that had nothing to be held": {heard: []*v1alpha1.NodeImageCache{object("a"), object("b", "x")}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d store.Desired
			for _, o := range tc.heard {
				d = Hear(d, o)
			}
			var ids []string
			for _, c := range d.HeldCredentials {
				ids = append(ids, c.ID)
			}
			if got := strings.Join(ids, " "); got != tc.held || d.HeldNodeUID != tc.nodeUID {
				t.Errorf("held %q for %q, want %q for %q", got, d.HeldNodeUID, tc.held, tc.nodeUID)
			}
		})
	}
}

package manifest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/api/wish"
	"edgecache.dev/edgeagent/store"
)

// UID is that of the object that the agent is told of. An agent that worked for an API
// server before, or does after, takes it for another object: what it held is held on until
// the wish is known.
const UID types.UID = "manifest"

// lookEvery is the time between two looks at the directory. A change counts at the second
// look that sees it.
const lookEvery = 2 * time.Second

// Memory is what is needed of the store.
type Memory interface {
	Desired() (store.Desired, bool, error)
	Manifests() ([]store.Manifest, error)
	SaveManifests(save []store.Manifest, drop []string) error
}

// Agent is told what to hold, and what is wrong with the files: nil when nothing is.
type Agent interface {
	Hear(object *v1alpha1.NodeImageCache)
	HearTrouble(err error)
}

// Source has an agent work from files. The agent offers it its status, as it does to a
// reporter that writes to an API server.
type Source struct {
	memory Memory
	node   *corev1.Node
	folder folder
	wake   chan struct{}

	mu     sync.Mutex                     // guards status
	status *v1alpha1.NodeImageCacheStatus // the agent's newest

	// The rest is owned by the goroutine in Run.
	object *v1alpha1.NodeImageCache
	force  force
	read   bool // the files were read by this process
	unsaid bool // the store does not have what is in force yet
	failed bool // to be stored, which was logged
}

// New makes a source for a node with labels, beside those that every kubelet gives its Node:
// host name, operating system and architecture. The directory is read when it is run.
func New(dir, node, architecture string, labels map[string]string, memory Memory) *Source {
	all := map[string]string{
		corev1.LabelHostname: node, corev1.LabelOSStable: "linux", corev1.LabelArchStable: architecture,
	}
	maps.Copy(all, labels)
	return &Source{
		memory: memory, folder: folder{dir: dir}, wake: make(chan struct{}, 1),
		node:   &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: all}},
		status: &v1alpha1.NodeImageCacheStatus{},
	}
}

// Offer takes the newest status of the agent. What it found out about tags becomes part of
// the wish.
func (s *Source) Offer(uid types.UID, status *v1alpha1.NodeImageCacheStatus) {
	if uid != UID {
		return // of the time before the files were read
	}
	s.mu.Lock()
	s.status = status
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Source) newest() *v1alpha1.NodeImageCacheStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Recall reads what was in force before from the store. It is called before Run.
func (s *Source) Recall() error {
	desired, _, err := s.memory.Desired()
	if err != nil {
		return fmt.Errorf("recalling the wish: %w", err)
	}
	manifests, err := s.memory.Manifests()
	if err != nil {
		return fmt.Errorf("recalling manifests: %w", err)
	}
	s.object = &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: s.node.Name, UID: UID}}
	s.object.Spec = *desired.Spec.DeepCopy()
	if desired.UID == string(UID) {
		s.object.Generation = desired.Generation
	} else { // the wish of an API server: what it froze counts, what it asked to be removed does not
		s.object.Spec.NodeUID, s.object.Spec.Remove = "", nil
	}
	s.force.held = map[wish.Owner]store.Manifest{}
	for _, m := range manifests {
		s.force.held[wish.OwnerOf(&m.Cache)] = m
	}
	return nil
}

// Run tells the agent what to hold until the context ends.
func (s *Source) Run(ctx context.Context, agent Agent) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			s.settle(ctx, agent)
		case <-look.C:
			if s.look(ctx, agent) || s.unsaid || s.leaves() {
				s.settle(ctx, agent)
			}
		}
	}
}

// look reads the directory. It says whether something changed.
func (s *Source) look(ctx context.Context, agent Agent) bool {
	files, fresh, err := s.folder.look()
	switch {
	case err != nil:
		agent.HearTrouble(err)
		s.folder.taken = nil // told anew when it is back
		return false
	case !fresh:
		return false
	}
	s.force = s.force.take(files)
	s.read, s.unsaid = true, true
	agent.HearTrouble(s.force.mistakes)
	klog.FromContext(ctx).Info("Manifests read", "files", len(files), "imageCaches", len(s.force.held), "gone", len(s.force.gone))
	if names := s.force.unread(); len(names) > 0 {
		klog.FromContext(ctx).Info("imagePullSecrets are not read without an API server: pull credentials come from --docker-config", "imageCaches", strings.Join(names, ", "))
	}
	return true
}

func (s *Source) leaves() bool {
	at := nextLeave(&s.object.Spec)
	return s.read && !at.IsZero() && !time.Now().Before(at)
}

// settle works out the wish and tells it when it is another one.
func (s *Source) settle(ctx context.Context, agent Agent) {
	if !s.read {
		return // the agent works by what it remembers
	}
	status := s.newest()
	carried := s.object.Generation > 0 && status.ObservedGeneration == s.object.Generation
	spec := plan(planInput{
		node: s.node, caches: s.force.caches(), gone: s.policies(), whole: s.force.whole(),
		current: s.object.Spec, status: status, carried: carried, now: time.Now(),
	})
	if s.object.Generation == 0 || !equality.Semantic.DeepEqual(spec, s.object.Spec) {
		carried = false
		s.object = s.object.DeepCopy()
		s.object.Generation++
		s.object.Spec = spec
		agent.Hear(s.object)
	}
	s.save(ctx, carried)
}

func (s *Source) policies() map[wish.Owner]v1alpha1.DeletionPolicy {
	policies := map[wish.Owner]v1alpha1.DeletionPolicy{}
	for owner, m := range s.force.gone {
		policies[owner] = m.Cache.Spec.DeletionPolicy
	}
	return policies
}

// save stores what is in force. ImageCaches that are gone are forgotten when the agent has
// carried out, and so stored, what follows from that.
func (s *Source) save(ctx context.Context, carried bool) {
	forget := carried && len(s.force.gone) > 0
	if !s.unsaid && !forget {
		return
	}
	var drop []string
	if forget {
		for _, m := range s.force.gone {
			drop = append(drop, m.Key())
		}
	}
	err := s.memory.SaveManifests(slices.Collect(maps.Values(s.force.held)), drop)
	if err != nil {
		if !s.failed {
			klog.FromContext(ctx).Error(err, "Manifests not stored, trying again")
		}
		s.unsaid, s.failed = true, true
		return
	}
	s.unsaid, s.failed = false, false
	if forget {
		s.force.gone = nil
	}
}

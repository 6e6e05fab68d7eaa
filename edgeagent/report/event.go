package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"edgecache.dev/api/v1alpha1"
	"edgecache.dev/edgeagent/store"
)

const (
	// reportingController of the agent's Events.
	reportingController = "edgecache.dev/agent"
	// reasonDropped is the reason of the Event that says how many there are none of.
	reasonDropped = "RecordsDropped"
	// DoubtfulAnnotation marks Events whose times are those of a clock that was wrong.
	DoubtfulAnnotation = "edgecache.dev/clock-not-trusted"
	// maxEventNode is how much of a node's name the name of an Event has room for.
	maxEventNode = 200
)

// wording says how a kind of record is told.
type wording struct{ reason, kind, action, text string }

var wordings = map[store.Kind]wording{
	store.ImageCached:    {"ImageCached", corev1.EventTypeNormal, "Pull", "image is cached"},
	store.ImageLost:      {"ImageLost", corev1.EventTypeWarning, "Look", "image is gone or not whole any more, bringing it back"},
	store.ImageRestored:  {"ImageRestored", corev1.EventTypeNormal, "Pull", "image is back"},
	store.ImageFailing:   {"ImageFailing", corev1.EventTypeWarning, "Pull", "image cannot be brought"},
	store.ImageRecovered: {"ImageRecovered", corev1.EventTypeNormal, "Pull", "image could be brought after failing"},
	store.ImageRemoved:   {"ImageRemoved", corev1.EventTypeNormal, "Remove", "image is removed as asked for"},
	store.ImageDamaged:   {"ImageDamaged", corev1.EventTypeWarning, "Verify", "image is damaged on disk, as after a power cut, and will be brought anew"},
	store.LinkDown:       {"LinkDown", corev1.EventTypeWarning, "Look", "link is down"},
	store.LinkUp:         {"LinkUp", corev1.EventTypeNormal, "Look", "link is up"},
	store.NodeBooted:     {"NodeBooted", corev1.EventTypeNormal, "Look", "the node was started anew"},
	store.StoreMadeAnew:  {"StoreMadeAnew", corev1.EventTypeWarning, "Open", "the agent's store was damaged or lost, and made anew"},
}

// event tells a record as an Event about an object: always the same one, by whose name the
// API server knows it when it was told before.
func event(r store.Record, about *v1alpha1.NodeImageCache) *corev1.Event {
	w := wordings[r.Kind]
	e := eventAbout(about, r.Time, fmt.Sprintf("%d/%s", r.Seq, r.Kind))
	e.Reason, e.Type, e.Action = cmp.Or(w.reason, string(r.Kind)), cmp.Or(w.kind, corev1.EventTypeNormal), cmp.Or(w.action, "Look")
	e.Message = Cut(sentence(cmp.Or(w.text, string(r.Kind)), r))
	if r.Doubtful {
		e.Annotations = map[string]string{DoubtfulAnnotation: "true"}
		e.Message = Cut("(time not certain: the node's clock was wrong) " + e.Message)
	}
	return e
}

func sentence(text string, r store.Record) string {
	if r.Image != "" {
		text += ": " + r.Image
	}
	if r.Digest != "" {
		text += " at " + r.Digest
	}
	if detail := strings.TrimPrefix(r.Reason+": "+r.Message, ": "); detail != "" && detail != ": " {
		text += ": " + strings.TrimSuffix(detail, ": ")
	}
	return text
}

// dropped says how many records there are no Events of.
func dropped(j store.Journal, about *v1alpha1.NodeImageCache) *corev1.Event {
	at, first := time.Now(), uint64(0)
	if len(j.Records) > 0 {
		at, first = j.Records[0].Time, j.Records[0].Seq
	}
	e := eventAbout(about, at, fmt.Sprintf("%d/%s", first, reasonDropped))
	e.Reason, e.Type, e.Action = reasonDropped, corev1.EventTypeWarning, "Record"
	e.Message = fmt.Sprintf("%d older records of what happened on the node are lost: only the newest are kept while the API server is away", j.Dropped)
	return e
}

func eventAbout(o *v1alpha1.NodeImageCache, at time.Time, what string) *corev1.Event {
	stamp := metav1.NewTime(at)
	hash := sha256.New()
	fmt.Fprintf(hash, "%s/%s/", o.UID, what)
	_ = binary.Write(hash, binary.BigEndian, at.UnixNano()) // a hash takes all
	return &corev1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.Namespace,
			Name:      fmt.Sprintf("%s.%x", strings.TrimRight(o.Name[:min(len(o.Name), maxEventNode)], "-."), hash.Sum(nil)[:8]),
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "NodeImageCache", Namespace: o.Namespace, Name: o.Name, UID: o.UID,
		},
		EventTime: metav1.NewMicroTime(at), FirstTimestamp: stamp, LastTimestamp: stamp, Count: 1,
		ReportingController: reportingController, ReportingInstance: o.Name[:min(len(o.Name), 128)],
		Source: corev1.EventSource{Component: "edgecache-agent", Host: o.Name},
	}
}

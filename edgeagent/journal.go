package edgeagent

import (
	"time"

	"k8s.io/klog/v2"

	"edgecache.dev/edgeagent/store"
)

// Note has something recorded that happened on the node: now, if its Time is zero. It does
// not block. Transitions only: what lasts or is tried again is not to be noted again.
func (a *Agent) Note(r store.Record) {
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	a.tell(func(in *inbox) { in.notes = append(in.notes, r) })
}

// LinkTurned has recorded that the link to a peer went down, or is back, since a time.
func (a *Agent) LinkTurned(peer string, up bool, since time.Time) {
	kind := store.LinkDown
	if up {
		kind = store.LinkUp
	}
	// That it is down is known some time after it went: the record has the time of now, as
	// one before those that were written already would look as if the clock was wrong.
	a.Note(store.Record{Kind: kind, Message: peer + ", since " + since.UTC().Format(time.RFC3339)})
}

// untold are the kinds that a status does not show: they are recorded at any time. All
// others are recorded only while the API server is away. While it is there the status tells
// them, and an Event for each image of each node would cost a fleet more than all else.
var untold = map[store.Kind]bool{store.ImageLost: true, store.ImageDamaged: true, store.NodeBooted: true, store.StoreMadeAnew: true}

// note takes a record in; the next write stores it, together with what else changed.
func (a *Agent) note(r store.Record) {
	if a.options.Links != nil && a.options.Links.Connected() && !untold[r.Kind] {
		return
	}
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Time = r.Time.UTC().Truncate(time.Millisecond)
	r.Doubtful = r.Doubtful || r.Time.Before(a.options.Built)
	a.owes.notes = append(a.owes.notes, r)
	a.owes.notes = a.owes.notes[max(0, len(a.owes.notes)-maxNotes):]
}

// noteBoot notes that the node was started anew since the agent ran last.
func (a *Agent) noteBoot() {
	last, err := a.memory.Boot()
	if err != nil || a.options.BootID == "" || last == a.options.BootID {
		return
	}
	a.owes.boot = a.options.BootID
	if last != "" {
		a.note(store.Record{Kind: store.NodeBooted})
	}
}

// witness notes what the ledger is to say anew of images, and gives those entries.
func (a *Agent) witness() []store.Entry {
	for _, after := range a.steps.Save {
		if kind := transition(a.ledger[after.Name], after); kind != "" {
			a.note(store.Record{Kind: kind, Image: after.Name, Digest: after.Digest})
		}
	}
	return a.steps.Save
}

// transition says what happened to an image between two entries, "" for nothing that
// anybody would look for.
func transition(before, after store.Entry) store.Kind {
	switch {
	case after.RemovedSince != nil && before.RemovedSince == nil && before.Digest != "":
		return store.ImageRemoved
	case after.Digest == "" || after.Failure != nil || after.Lost != nil:
		return ""
	case before.Lost != nil && before.Digest == after.Digest:
		return store.ImageRestored
	case before.Failure != nil:
		return store.ImageRecovered
	case before.Digest != after.Digest:
		return store.ImageCached
	}
	return ""
}

// lost notes images that were there as they are wished, and are not any more, and gives
// their entries.
func (a *Agent) lost() (save []store.Entry) {
	planned := map[string]int{}
	for i := range a.steps.Save {
		planned[a.steps.Save[i].Name] = i
	}
	for i := range a.steps.Missing {
		img := &a.steps.Missing[i]
		name := img.Ref.String()
		e, held := a.ledger[name], a.inventory[img.Ref]
		if e.Lost != nil || e.Digest == "" || e.Digest != img.Digest.String() || held.Complete && held.Digest == img.Digest {
			continue
		}
		now := time.Now().UTC().Truncate(time.Second)
		if at, ok := planned[name]; ok {
			a.steps.Save[at].Lost = &now
		} else {
			e.Lost = &now
			save = append(save, e)
		}
		klog.Background().Info("Image is lost, bringing it back", "image", name, "digest", img.Digest)
		a.note(store.Record{Kind: store.ImageLost, Image: name, Digest: e.Digest})
	}
	return save
}

package trace

import (
	"slices"
	"time"
)

// feed holds the timelines of a Log that have something to export. The Log's lock
// guards it.
type feed struct {
	on        bool     // there are exporters
	list      []*entry // in the order of their first change
	forgotten int      // how many of list have left the ring
	dropped   int      // timelines that were never exported
}

// feeding is the part of an entry that belongs to the feed.
type feeding struct {
	fed      bool      // is in the list
	told     bool      // the call itself has been exported
	exported int       // how many of its events have been exported
	ended    time.Time // when its Reason was set
}

// add notes that the timeline has changed.
func (f *feed) add(e *entry) {
	if f.on && !e.fed {
		e.fed = true
		f.list = append(f.list, e)
	}
}

// forget notes that the timeline has left the ring. At most most such timelines wait;
// if there are more, the oldest one is dropped.
func (f *feed) forget(e *entry, most int) {
	if !e.fed {
		return
	}
	if f.forgotten++; f.forgotten <= most {
		return
	}
	i := slices.IndexFunc(f.list, func(e *entry) bool { return e.forgotten })
	f.list = slices.Delete(f.list, i, i+1)
	f.forgotten--
	f.dropped++
}

// When a timeline is exported: some events come after the end of a call.
const (
	settled = 2 * time.Second
	// latest is when the end of a call is exported, whatever else happens.
	latest = 10 * time.Second
	// abandoned is when a call without an end counts as over: it may ring for five
	// minutes without an event.
	abandoned = 6 * time.Minute
)

// due reports whether to export the timeline now: the call has ended or was not held,
// or this is the part of an instance that did not own the call.
func (e *entry) due(now time.Time) bool {
	silent := now.Sub(e.last)
	switch {
	case e.forgotten:
		return true
	case e.Reason != "":
		return silent >= settled || now.Sub(e.ended) >= latest
	case e.Outcome == "none" || e.Outcome == "shed":
		return silent >= settled
	case !e.owned(), e.Events[len(e.Events)-1].Name == StoreAway:
		return silent >= latest
	}
	return silent >= abandoned
}

// owned reports whether this is the timeline of the instance that started the call or
// adopted it.
func (t *Timeline) owned() bool {
	return t.Outcome != "" || slices.ContainsFunc(t.Events, func(e Event) bool {
		return e.Name == Held || e.Name == Adopted || e.Name == StoreAway
	})
}

// Part is what an Exporter gets of one call.
type Part struct {
	// Timeline has the events that have not been exported yet.
	Timeline
	// Whole marks the part that stands for the call itself: one instance exports it,
	// once. Other parts have events that came later, or that another instance saw.
	Whole bool
	// Verdict is the verdict on a Whole call that no other instance worked on.
	Verdict string
}

// complete does what would take too long under the Log's lock.
func (p *Part) complete(instance string, shared bool) {
	p.Instance = instance
	if p.Whole && !shared {
		p.Verdict = Verdict(&p.Timeline)
	}
}

// DeviceName returns the name of a device in timelines and logs. A device without a name
// is known by a hash of its push address; the name has 16 bits of it, too few to find or
// recognise the address.
func DeviceName(device string) string {
	if Hashed(device) {
		return "unnamed-" + device[:4]
	}
	return device
}

// Hashed reports whether the device is known only by the hash of its push address.
func Hashed(device string) bool {
	if len(device) != 20 {
		return false
	}
	for _, c := range []byte(device) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Last returns the time of the last event.
func (p *Part) Last() time.Time {
	if n := len(p.Events); n > 0 {
		return p.Events[n-1].At
	}
	return p.StartedAt
}

// export returns up to most parts that are due; with all, which the process sets when
// it ends, every part. If shared, the instance that adopts an open call exports it.
func (l *Log) export(now time.Time, most int, all, shared bool) (parts []Part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := l.feed.list[:0]
	for _, e := range l.feed.list {
		if len(parts) == most || !all && !e.due(now) {
			rest = append(rest, e)
			continue
		}
		p := Part{Timeline: e.copy(), Whole: !e.told && e.owned() && (!all || !shared || e.Reason != "" || e.due(now))}
		p.Events = p.Events[e.exported:]
		e.fed, e.exported, e.told = false, len(e.Events), e.told || p.Whole
		if e.forgotten {
			l.feed.forgotten--
		}
		if p.Whole || len(p.Events) > 0 {
			parts = append(parts, p)
		}
	}
	clear(l.feed.list[len(rest):])
	l.feed.list = rest
	return parts
}

// takeUnexported returns how many timelines were dropped since the last call.
func (l *Log) takeUnexported() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.feed.dropped
	l.feed.dropped = 0
	return n
}

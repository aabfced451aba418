package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
)

// The value of a part of a timeline: 1 version, 8 started, then tags. Its ID and instance
// are the key. Each event is one tagged field: 8 at, then tags.
const traceHead = 9

const (
	tagTraceAOR     = 1
	tagTraceNode    = 2
	tagTraceCallID  = 3
	tagTraceKind    = 4
	tagTraceOutcome = 5
	tagTraceReason  = 6
	tagTraceOmitted = 7 // uvarint
	tagTraceEvent   = 8
)

const (
	tagEventName     = 1
	tagEventDevice   = 2
	tagEventDetail   = 3
	tagEventProvider = 4
	tagEventApp      = 5
	tagEventKind     = 6
	tagEventID       = 7
	tagEventTries    = 8  // uvarint
	tagEventSent     = 9  // 8 bytes
	tagEventCode     = 10 // uvarint
)

// usualTrace and usualEvent are sizes in bytes that are enough for most traces and events.
const (
	usualTrace = 512
	usualEvent = 128
)

// AppendTrace appends the value of the part t: everything except its ID and Instance.
// To keep the value within most bytes, it leaves out events from the middle: the
// beginning and the end of a call tell the most. Other fields are never left out, even if
// they exceed most. Times are kept to the microsecond.
func AppendTrace(dst []byte, t *trace.Timeline, most int) []byte {
	start := len(dst)
	dst = slices.Grow(dst, usualTrace)
	dst = append(dst, Version)
	dst = appendTime(dst, t.StartedAt)
	dst = appendTag(dst, tagTraceAOR, t.AOR)
	dst = appendTag(dst, tagTraceNode, t.Node)
	dst = appendTag(dst, tagTraceCallID, t.CallID)
	dst = appendTag(dst, tagTraceKind, t.Kind)
	dst = appendTag(dst, tagTraceOutcome, t.Outcome)
	dst = appendTag(dst, tagTraceReason, t.Reason)
	events, one := make([]byte, 0, usualTrace), make([]byte, 0, usualEvent)
	ends := make([]int, 0, 16) // of each event in events
	for i := range t.Events {
		one = appendEvent(one[:0], &t.Events[i])
		events = appendTag(events, tagTraceEvent, one)
		ends = append(ends, len(events))
	}
	from, to := len(ends), len(ends) // events between them are left out
	room := most - (len(dst) - start) - 2 - binary.MaxVarintLen64
	for left := len(events); left > room && to-from < len(ends); {
		// Widen the gap in the middle of the list.
		switch {
		case from == to:
			from, to = len(ends)/2, len(ends)/2+1
		case from > len(ends)-to || to == len(ends):
			from--
		default:
			to++
		}
		left = end(ends, from) + len(events) - end(ends, to)
	}
	dst = appendNumber(dst, tagTraceOmitted, t.Omitted+to-from)
	dst = append(dst, events[:end(ends, from)]...)
	return append(dst, events[end(ends, to):]...)
}

// end returns the offset at which the first n events end.
func end(ends []int, n int) int {
	if n == 0 {
		return 0
	}
	return ends[n-1]
}

func appendEvent(dst []byte, e *trace.Event) []byte {
	dst = appendTime(dst, e.At)
	dst = appendTag(dst, tagEventName, string(e.Name))
	dst = appendTag(dst, tagEventDevice, e.Device)
	dst = appendTag(dst, tagEventDetail, e.Detail)
	dst = appendTag(dst, tagEventProvider, e.Provider)
	dst = appendTag(dst, tagEventApp, e.App)
	dst = appendTag(dst, tagEventKind, e.Kind)
	dst = appendTag(dst, tagEventID, e.ID)
	dst = appendNumber(dst, tagEventTries, e.Tries)
	if !e.SentAt.IsZero() {
		dst = appendTag(dst, tagEventSent, appendTime(nil, e.SentAt))
	}
	return appendNumber(dst, tagEventCode, e.Code)
}

// appendNumber appends a tagged number, nothing if it is 0.
func appendNumber(dst []byte, tag byte, n int) []byte {
	if n <= 0 {
		return dst
	}
	return appendTag(dst, tag, binary.AppendUvarint(nil, uint64(n)))
}

func readNumber(s []byte) (int, error) {
	n, w := binary.Uvarint(s)
	if w <= 0 || n > 1<<31-1 {
		return 0, errShort
	}
	return int(n), nil
}

// DecodeTrace reads the value of a part. Unknown tags are skipped.
func DecodeTrace(id, instance string, v []byte) (trace.Timeline, error) {
	fail := func(err error) (trace.Timeline, error) {
		return trace.Timeline{}, fmt.Errorf("cannot read trace: %w", err)
	}
	if len(v) < traceHead {
		return fail(errShort)
	}
	if v[0] != Version {
		return fail(fmt.Errorf("version %d: %w", v[0], errVersion))
	}
	t := trace.Timeline{Head: trace.Head{ID: id, StartedAt: readTime(v[1:])}, Instance: instance}
	texts := map[byte]*string{tagTraceAOR: &t.AOR, tagTraceNode: &t.Node, tagTraceCallID: &t.CallID, tagTraceKind: &t.Kind,
		tagTraceOutcome: &t.Outcome, tagTraceReason: &t.Reason}
	err := eachTag(v[traceHead:], func(tag byte, s []byte) (err error) {
		switch {
		case texts[tag] != nil:
			*texts[tag] = string(s)
		case tag == tagTraceOmitted:
			t.Omitted, err = readNumber(s)
		case tag == tagTraceEvent:
			var e trace.Event
			e, err = readEvent(s)
			t.Events = append(t.Events, e)
		}
		return err
	})
	if err != nil {
		return fail(err)
	}
	return t, nil
}

func readEvent(b []byte) (e trace.Event, err error) {
	if len(b) < 8 {
		return e, errShort
	}
	e.At = readTime(b)
	err = eachTag(b[8:], func(tag byte, s []byte) (err error) {
		switch tag {
		case tagEventName:
			e.Name = trace.EventName(s)
		case tagEventDevice:
			e.Device = string(s)
		case tagEventDetail:
			e.Detail = string(s)
		case tagEventProvider:
			e.Provider = string(s)
		case tagEventApp:
			e.App = string(s)
		case tagEventKind:
			e.Kind = string(s)
		case tagEventID:
			e.ID = string(s)
		case tagEventTries:
			e.Tries, err = readNumber(s)
		case tagEventSent:
			if len(s) != 8 {
				return errShort
			}
			e.SentAt = readTime(s)
		case tagEventCode:
			e.Code, err = readNumber(s)
		}
		return err
	})
	return e, err
}

var errTraceName = errors.New("a part of a trace needs an ID, an instance, neither with a NUL, and a time")

// CheckTrace returns an error if the part cannot be stored.
func CheckTrace(t *trace.Timeline) error {
	if !plainName(t.ID) || !plainName(t.Instance) || t.StartedAt.UnixMicro() <= 0 {
		return errTraceName
	}
	return nil
}

func plainName(s string) bool {
	return s != "" && len(s) <= MaxMessageID && !slices.Contains([]byte(s), 0)
}

// TraceStart returns the start time of a call as it is written in keys.
func TraceStart(t time.Time) uint64 { return uint64(max(t.UnixMicro(), 0)) }

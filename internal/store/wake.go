package store

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// Limits that both stores enforce.
const (
	// MaxDevices is how many bindings an AOR may have. One more replaces the
	// binding that registered the longest time ago.
	MaxDevices = 32
	// MaxWakes is how many wakes are kept per AOR, so that flooding a user with calls
	// does not slow down the phone's REGISTER. Wakes past their deadline make room.
	MaxWakes = 64
	// MaxTombs is how many tombstones are kept per AOR; the newest are kept. The limit
	// is needed because strangers can end calls that never existed.
	MaxTombs = 64
	// MaxRecent is how many recent registrations that left no binding are
	// remembered per AOR; the newest are kept.
	MaxRecent = 64
	// Tombstone is how long an End without a Start is remembered.
	Tombstone = time.Minute
	// WakeMargin is how long a wake is kept past its time, by the store's own
	// clock. The clocks of the instances may differ by this much.
	WakeMargin = 30 * time.Second
	// MaxHold caps the time to the deadline.
	MaxHold = time.Hour
	// MaxKeep is the longest time a wake is kept.
	MaxKeep = MaxHold + wake.MaxRing + WakeMargin
)

// Keep returns how long the store keeps a wake that does not end: the time to its
// deadline, plus the longest ringing time, plus the margin.
func Keep(w *wake.Wake) time.Duration {
	return min(max(w.Deadline.Sub(w.StartedAt), 0), MaxHold) + wake.MaxRing + WakeMargin
}

// Past reports whether o is past its deadline when w starts. Such a wake is kept only
// so that it can be ended.
func Past(o, w *wake.Wake) bool { return w.StartedAt.After(o.Deadline) }

// Tags after the head of a wake. The head is: 1 version  8 started  8 deadline
// 2+n Call-ID  2+n ID. tagWakeInstance comes first, where a script can find it.
const (
	tagWakeNode = 1
	tagWakeCall = 2
	tagWakeKind = 3

	tagWakeOwner   = 4
	tagWakePushed  = 5 // one for each device
	tagWakeFrom    = 6
	tagWakeDisplay = 7
	tagWakeMedia   = 8
	tagWakeBody    = 9
	tagWakeForked  = 10 // set: one byte

	tagWakeInstance = 11
	tagWakeParent   = 12
	tagWakeTo       = 13
	tagWakeHeader   = 14 // one for each: name, 0, value
	tagWakeVerstat  = 15
	tagWakeUrgent   = 16 // set: one byte
)

const (
	atDeadline   = 9
	atWakeCallID = 17
)

// AppendWake appends the value of w: everything except its AOR.
func AppendWake(dst []byte, w *wake.Wake) ([]byte, error) {
	if len(w.CallID) > math.MaxUint16 || len(w.ID) > math.MaxUint16 {
		return nil, fmt.Errorf("cannot write wake: %w", errTooLong)
	}
	dst = append(dst, Version)
	dst = appendTime(dst, w.StartedAt)
	dst = appendTime(dst, w.Deadline)
	dst = append16(dst, w.CallID)
	dst = append16(dst, w.ID)
	dst = AppendInstance(dst, w.Instance)
	dst = appendTag(dst, tagWakeNode, w.Node)
	dst = appendTag(dst, tagWakeCall, w.Call)
	dst = appendTag(dst, tagWakeKind, string(w.Kind))
	dst = AppendOwner(dst, w.Owner)
	dst = appendTag(dst, tagWakeFrom, w.From)
	dst = appendTag(dst, tagWakeDisplay, w.Display)
	dst = appendTag(dst, tagWakeMedia, w.Media)
	dst = appendTag(dst, tagWakeBody, w.Body)
	dst = appendTag(dst, tagWakeParent, w.TraceParent)
	dst = appendTag(dst, tagWakeTo, w.To)
	dst = appendTag(dst, tagWakeVerstat, w.Verstat)
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		dst = appendTag(dst, tagWakeHeader, name+"\x00"+w.Headers[name])
	}
	if w.Urgent {
		dst = appendTag(dst, tagWakeUrgent, "1")
	}
	for _, device := range w.Pushed {
		dst = AppendPushed(dst, device)
	}
	if w.Forked {
		dst = AppendForked(dst)
	}
	return dst, nil
}

// AppendInstance appends the instance to the value of a wake for one device, right after
// the head. It appends nothing for a wake for all devices.
func AppendInstance(dst []byte, instance string) []byte {
	return appendTag(dst, tagWakeInstance, instance)
}

// AppendOwner appends the owner to the value of a wake, nothing if there is no owner.
func AppendOwner(dst []byte, owner string) []byte { return appendTag(dst, tagWakeOwner, owner) }

// Again reports whether w is the wake o itself: its owner starts it again because it does
// not know whether o was stored. The owners must match too, because another owner gives
// the same request the same ID.
func Again(o, w *wake.Wake) bool { return o.ID == w.ID && o.Owner == w.Owner }

// AppendForked marks a wake's value as Forked.
func AppendForked(dst []byte) []byte { return appendTag(dst, tagWakeForked, "1") }

// AppendPushed adds a device to the Pushed list in a wake's value.
func AppendPushed(dst []byte, device string) []byte { return appendTag(dst, tagWakePushed, device) }

// DecodeWake reads a wake's value. Unknown tags are skipped.
func DecodeWake(aor string, v []byte) (wake.Wake, error) {
	if len(v) < atWakeCallID {
		return wake.Wake{}, fmt.Errorf("cannot read wake: %w", errShort)
	}
	if v[0] != Version {
		return wake.Wake{}, fmt.Errorf("cannot read wake: version %d: %w", v[0], errVersion)
	}
	w := wake.Wake{AOR: aor, StartedAt: readTime(v[1:]), Deadline: readTime(v[atDeadline:])}
	callID, rest, ok1 := cut16(v[atWakeCallID:])
	id, rest, ok2 := cut16(rest)
	if !ok1 || !ok2 {
		return wake.Wake{}, fmt.Errorf("cannot read wake: %w", errShort)
	}
	w.CallID, w.ID = string(callID), string(id)
	err := eachTag(rest, func(tag byte, s []byte) error {
		switch tag {
		case tagWakeNode:
			w.Node = string(s)
		case tagWakeCall:
			w.Call = string(s)
		case tagWakeKind:
			w.Kind = push.Kind(s)
		case tagWakeOwner:
			w.Owner = string(s)
		case tagWakePushed:
			w.Pushed = append(w.Pushed, string(s))
		case tagWakeFrom:
			w.From = string(s)
		case tagWakeDisplay:
			w.Display = string(s)
		case tagWakeMedia:
			w.Media = string(s)
		case tagWakeBody:
			w.Body = string(s)
		case tagWakeInstance:
			w.Instance = string(s)
		case tagWakeParent:
			w.TraceParent = string(s)
		case tagWakeUrgent:
			w.Urgent = true
		case tagWakeForked:
			w.Forked = true
		case tagWakeTo:
			w.To = string(s)
		case tagWakeVerstat:
			w.Verstat = string(s)
		case tagWakeHeader:
			if w.Headers == nil {
				w.Headers = make(map[string]string)
			}
			name, value, _ := strings.Cut(string(s), "\x00")
			w.Headers[name] = value
		}
		return nil
	})
	if err != nil {
		return wake.Wake{}, fmt.Errorf("cannot read wake: %w", err)
	}
	return w, nil
}

const goneFlag = 0x80

// AppendRegistration appends the value of a remembered REGISTER: one byte for its action
// and whether it was Gone, the device (2+n), then its binding. It also returns the head
// of the binding.
func AppendRegistration(dst []byte, r *wake.Registration, seen time.Time) ([]byte, Head, error) {
	if len(r.Device) > math.MaxUint16 {
		return nil, Head{}, fmt.Errorf("cannot write registration: device: %w", errTooLong)
	}
	flags := byte(r.Action)
	if r.Gone {
		flags |= goneFlag
	}
	dst = append16(append(dst, flags), r.Device)
	return AppendEncoded(dst, r, seen)
}

// MarkGone marks the value of a remembered REGISTER as Gone.
func MarkGone(v []byte) { v[0] |= goneFlag }

// CutRegistration splits the value of a remembered REGISTER into gone and the value
// of its binding.
func CutRegistration(v []byte) (gone bool, binding []byte, err error) {
	if len(v) < 3 || len(v) < 3+int(binary.BigEndian.Uint16(v[1:])) {
		return false, nil, fmt.Errorf("cannot read registration: %w", errShort)
	}
	return v[0]&goneFlag != 0, v[3+int(binary.BigEndian.Uint16(v[1:])):], nil
}

// DecodeRegistration reads the value of a remembered REGISTER.
func DecodeRegistration(aor string, v []byte) (wake.Registration, error) {
	gone, value, err := CutRegistration(v)
	if err != nil {
		return wake.Registration{}, err
	}
	device := string(v[3 : len(v)-len(value)])
	b, err := DecodeBinding(aor, device, value)
	if err != nil {
		return wake.Registration{}, err
	}
	return wake.Registration{Binding: b, Action: wake.Action(v[0] &^ goneFlag), Gone: gone}, nil
}

// DeviceKey returns the key under which a registration is remembered: its device, or
// its Contact if the client names no device.
func DeviceKey(r *wake.Registration) string { return string(AppendDeviceKey(nil, r)) }

// AppendDeviceKey appends the DeviceKey.
func AppendDeviceKey(dst []byte, r *wake.Registration) []byte {
	if r.Device != "" {
		return append(append(dst, 'd'), r.Device...)
	}
	return append(append(dst, 'c'), r.Contact...)
}

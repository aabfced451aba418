package store

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/copied"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/wake"
)

// Limits for the notes that removals leave.
const (
	// NoteKeep is how long a note is kept.
	NoteKeep = 30 * 24 * time.Hour
	// MaxNotes is how many notes are kept per AOR; the newest are kept.
	MaxNotes = 8
	// maxNoteText is how many bytes are kept of a device or an app.
	maxNoteText = 1000
)

// The notes of an AOR: 1 version, then each note as 2+n, oldest first. A note is
// 8 at  2+n device  1+n provider  2+n app  1+n reason. It contains no token.

// NewNote returns the note for a binding that is removed. value is the binding's value.
func NewNote(device string, value []byte, reason string, now time.Time) wake.RemovalNote {
	n := wake.RemovalNote{Device: device, Reason: reason, At: now.UTC().Truncate(time.Microsecond)}
	if h, err := ReadHead(value); err == nil {
		if a, err := readAddress(h.Address, new(copied.Texts)); err == nil {
			n.Provider, n.App = a.Provider, a.App
		}
	}
	return n
}

// AddNote returns the notes with n added. Notes that are too old or too many are dropped,
// and a note that is already there is not added again. v is not changed.
func AddNote(v []byte, n *wake.RemovalNote) []byte {
	list := ReadNotes(v, n.At)
	if !slices.Contains(list, *n) {
		list = append(list, *n)
	}
	list = list[max(len(list)-MaxNotes, 0):]
	out := []byte{Version}
	for i := range list {
		start := len(out)
		out = appendTime(append(out, 0, 0), list[i].At)
		out = append16(out, clip(list[i].Device, maxNoteText))
		out = append8(out, string(list[i].Provider))
		out = append16(out, clip(list[i].App, maxNoteText))
		out = append8(out, list[i].Reason)
		binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
	}
	return out
}

// ReadNotes reads the notes that are not too old. It skips notes that are damaged or were
// written by a newer sipwake; nothing depends on them.
func ReadNotes(v []byte, now time.Time) []wake.RemovalNote {
	if len(v) == 0 || v[0] != Version {
		return nil
	}
	oldest := now.Add(-NoteKeep)
	var list []wake.RemovalNote
	for b := v[1:]; ; {
		note, rest, ok := cut16(b)
		if !ok {
			return list
		}
		if n, ok := readNote(note); ok && n.At.After(oldest) {
			list = append(list, n)
		}
		b = rest
	}
}

func readNote(b []byte) (n wake.RemovalNote, ok bool) {
	if len(b) < 8 {
		return n, false
	}
	n.At = readTime(b)
	device, b, ok1 := cut16(b[8:])
	provider, b, ok2 := cut8(b)
	app, b, ok3 := cut16(b)
	reason, _, ok4 := cut8(b)
	n.Device, n.Provider, n.App, n.Reason = string(device), pnparam.Provider(provider), string(app), string(reason)
	return n, ok1 && ok2 && ok3 && ok4
}

func clip(s string, most int) string { return s[:min(len(s), most)] }

func append8(dst []byte, s string) []byte {
	s = clip(s, 255)
	return append(append(dst, byte(len(s))), s...)
}

func cut8(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}

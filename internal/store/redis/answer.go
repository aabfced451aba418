package redis

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

var errAnswer = errors.New("unexpected answer of a script")

func wakeField(node, call string) string { return node + "\x00" + call }

func appendWakeField(dst []byte, node, call string) []byte {
	return append(append(append(dst, node...), 0), call...)
}

func action(a wake.Action) string {
	switch a {
	case wake.ActionBind:
		return "bind"
	case wake.ActionUnbind:
		return "unbind"
	}
	return "seen"
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// entry is a binding and the time at which Redis accepted its last REGISTER.
type entry struct {
	wake.Binding
	seen time.Time
}

// split reads the string that contains an AOR's bindings.
func split(aor, s string) ([]entry, error) {
	b := []byte(s)
	var list []entry
	for len(b) > 0 {
		if len(b) < 2 {
			return nil, errAnswer
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		if len(b) < n+4 {
			return nil, errAnswer
		}
		end := n + 4 + int(binary.BigEndian.Uint32(b[n:]))
		if len(b) < end {
			return nil, errAnswer
		}
		value := b[n+4 : end]
		binding, err := store.DecodeBinding(aor, unpackDevice(b[2:n]), value)
		if err != nil {
			return nil, err
		}
		head, err := store.ReadHead(value)
		if err != nil {
			return nil, err
		}
		list = append(list, entry{binding, head.Seen})
		b = b[end:]
	}
	return list, nil
}

// bindings reads (device, value, device, value, ...).
func bindings(aor string, a []any) ([]wake.Binding, error) {
	var list []wake.Binding
	for i := 0; i+1 < len(a); i += 2 {
		device, _ := a[i].(string)
		value, _ := a[i+1].(string)
		b, err := store.DecodeBinding(aor, unpackDevice([]byte(device)), []byte(value))
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// started parses the answer of the start script.
func started(aor string, answer any) (wake.Started, error) {
	a, _ := answer.([]any)
	word := ""
	if len(a) > 0 {
		word, _ = a[0].(string)
	}
	res := wake.Started{Ended: word == "ended", Duplicate: word == "duplicate", Full: word == "full", Forked: word == "forked"}
	if res.Ended || res.Duplicate || res.Full {
		return res, nil
	}
	if word == "again" && len(a) == 5 {
		value, _ := a[4].(string)
		w, err := store.DecodeWake(aor, []byte(value))
		if err != nil {
			return wake.Started{}, err
		}
		res.Forked = w.Forked
	} else if len(a) != 4 {
		return wake.Started{}, errAnswer
	}
	value, _ := a[1].(string)
	memory, _ := a[2].([]any)
	since, _ := a[3].(string)
	if len(since) != 8 {
		return wake.Started{}, errAnswer
	}
	remembered := make(map[string]bool)
	for i := 1; i < len(memory); i += 2 {
		v, _ := memory[i].(string)
		r, err := store.DecodeRegistration(aor, []byte(v))
		if err != nil {
			return wake.Started{}, err
		}
		remembered[r.Device] = true
		if !r.Gone {
			res.Recent = append(res.Recent, r)
		}
	}
	list, err := split(aor, value)
	if err != nil {
		return wake.Started{}, err
	}
	oldest := time.UnixMicro(int64(binary.BigEndian.Uint64([]byte(since))))
	for _, e := range list {
		res.Bindings = append(res.Bindings, e.Binding)
		// What left no binding came later than the binding's own REGISTER.
		if !remembered[e.Device] && !e.seen.Before(oldest) {
			res.Recent = append(res.Recent, wake.Registration{Binding: e.Binding, Action: wake.ActionBind})
		}
	}
	slices.SortFunc(res.Bindings, func(a, b wake.Binding) int { return strings.Compare(a.Device, b.Device) })
	slices.SortFunc(res.Recent, func(a, b wake.Registration) int { return a.RegisteredAt.Compare(b.RegisteredAt) })
	return res, nil
}

// packDevice shortens a device's name. Nearly all are an instance ID as RFC 5626
// section 4.1 recommends, urn:uuid:..., which has only 16 bytes of information. The
// scripts do the same (packed) to names that an older sipwake stored in full.
func packDevice(name string) string { return string(appendDevice(nil, name)) }

func appendDevice(dst []byte, name string) []byte {
	kind, text := byte('v'), name
	if n := len(name); n > 1 && name[0] == '<' && name[n-1] == '>' {
		kind, text = 'u', name[1:n-1]
	}
	if text, ok := strings.CutPrefix(text, urnPrefix); ok {
		if packed, ok := appendUUID(append(dst, kind), text); ok {
			return packed
		}
	}
	return append(append(dst, '='), name...)
}

// appendUUID appends the 16 bytes of a UUID in the form that uuid.UUID.String has.
func appendUUID(dst []byte, text string) ([]byte, bool) {
	if len(text) != 36 {
		return dst, false
	}
	for i := 0; i < len(text); {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if text[i] != '-' {
				return dst, false
			}
			i++
		}
		high, ok1 := digit(text[i])
		low, ok2 := digit(text[i+1])
		if !ok1 || !ok2 {
			return dst, false
		}
		dst = append(dst, high<<4|low)
		i += 2
	}
	return dst, true
}

// digit returns the value of a hexadecimal digit in lower case.
func digit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

const urnPrefix = "urn:uuid:"

func unpackDevice(b []byte) string {
	if len(b) == 17 && b[0] != '=' {
		name := urnPrefix + uuid.UUID(b[1:]).String()
		if b[0] == 'u' {
			name = "<" + name + ">"
		}
		return name
	}
	return strings.TrimPrefix(string(b), "=")
}

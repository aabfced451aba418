package fcm

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// unsaid lists the fields of a Message that the SDK does not know. They are added to
// the SDK's output. A test fails when the SDK has learned one.
var unsaid = []path{
	{"android_v2"},
	{"android", "bandwidth_constrained_ok"},
	{"android", "restricted_satellite_ok"},
	{"android", "notification", "bypass_proxy_notification"},
	{"webpush", "fcm_options", "analytics_label"},
}

// path leads to a field of a JSON object.
type path []string

// in reports whether the text may have the field. It is fast, and wrong only if a
// text value contains the same word.
func (p path) in(text []byte) bool {
	return bytes.Contains(text, []byte(`"`+p[len(p)-1]+`"`))
}

// copy returns into with the value that from has at the path.
func (p path) copy(from, into []byte) ([]byte, error) {
	if !p.in(from) {
		return into, nil
	}
	value, err := p.find(from)
	if err != nil || value == nil {
		return into, err
	}
	return p.set(into, value)
}

// find returns the value at the path, or nil.
func (p path) find(text json.RawMessage) (json.RawMessage, error) {
	for _, name := range p {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			return nil, fmt.Errorf("cannot look for %q: %w", name, err)
		}
		if text = object[name]; text == nil {
			return nil, nil
		}
	}
	return text, nil
}

// set writes the value at the path, and creates the objects on the way.
func (p path) set(text, value json.RawMessage) (json.RawMessage, error) {
	object := make(map[string]json.RawMessage)
	if len(text) > 0 {
		if err := json.Unmarshal(text, &object); err != nil {
			return nil, fmt.Errorf("cannot add %q: %w", p[0], err)
		}
	}
	if len(p) > 1 {
		below, err := p[1:].set(object[p[0]], value)
		if err != nil {
			return nil, err
		}
		value = below
	}
	object[p[0]] = value
	return json.Marshal(object)
}

package fcmsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

const (
	maxPayload = 4096
	maxTTL     = 2_419_200 // seconds
	maxFID     = 22
)

// Message has the fields of a request's message that are checked. Token is the
// installation ID if the request has that.
type Message struct {
	Token        string            `json:"token"`
	FID          string            `json:"fid"`
	Topic        string            `json:"topic"`
	Condition    string            `json:"condition"`
	Name         string            `json:"name"`
	Data         map[string]string `json:"data"`
	Notification json.RawMessage   `json:"notification"`
	Android      *Android          `json:"android"`
	AndroidV2    json.RawMessage   `json:"android_v2"`
	APNs         json.RawMessage   `json:"apns"`
	WebPush      json.RawMessage   `json:"webpush"`
	Options      json.RawMessage   `json:"fcm_options"`
}

// Android is the AndroidConfig of a Message.
type Android struct {
	CollapseKey           string            `json:"collapse_key"`
	Priority              string            `json:"priority"`
	TTL                   string            `json:"ttl"`
	RestrictedPackageName string            `json:"restricted_package_name"`
	Data                  map[string]string `json:"data"`
	Notification          json.RawMessage   `json:"notification"`
	Options               json.RawMessage   `json:"fcm_options"`
	DirectBootOK          bool              `json:"direct_boot_ok"`

	BandwidthConstrainedOK bool `json:"bandwidth_constrained_ok"`
	RestrictedSatelliteOK  bool `json:"restricted_satellite_ok"`
}

// parse reads and checks a request's body. A Behaviour with a Status refuses it.
func parse(body []byte) (*Message, Behaviour) {
	var request struct {
		ValidateOnly bool     `json:"validate_only"`
		Message      *Message `json:"message"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		// Like Google, name the field but not the value.
		return nil, BadField("message")
	}
	m := request.Message
	switch {
	case m == nil:
		return nil, BadField("message")
	case (m.Token == "") == (m.FID == "") || m.Topic != "" || m.Condition != "":
		return m, BadField("message.token")
	case m.FID != "" && (len(m.FID) > maxFID || strings.Contains(m.FID, ":")):
		return m, Unregistered() // as Google answers a registration token in this field
	case m.FID != "":
		m.Token = m.FID
	}
	switch {
	case m.Android != nil && m.AndroidV2 != nil:
		return m, BadField("message.android_v2")
	case !tokenFormat(m.Token):
		return m, BadToken()
	}
	if field := m.problem(); field != "" {
		return m, BadField(field)
	}
	if m.size() > maxPayload {
		return m, Behaviour{Status: http.StatusBadRequest, Code: "INVALID_ARGUMENT", Message: "Android message is too big"}
	}
	return m, Behaviour{}
}

// tokenFormat reports whether s can be a token. It is less strict about the length than
// Google, so that tests are readable.
func tokenFormat(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:"
	return len(s) >= 8 && strings.Trim(s, allowed) == ""
}

// duration reads a google.protobuf.Duration in JSON: "3.5s".
func duration(s string) (seconds uint64, ok bool) {
	number, ok := strings.CutSuffix(s, "s")
	whole, fraction, _ := strings.Cut(number, ".")
	seconds, err := strconv.ParseUint(whole, 10, 63)
	return seconds, ok && err == nil && len(fraction) <= 9 && strings.Trim(fraction, "0123456789") == ""
}

// problem returns the name of a wrong field, "" if there is none.
func (m *Message) problem() string {
	for key := range m.Data {
		if key == "from" || key == "message_type" || strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm") {
			return "message.data"
		}
	}
	a := m.Android
	if a == nil {
		return ""
	}
	switch strings.ToUpper(a.Priority) {
	case "", "HIGH", "NORMAL":
	default:
		return "message.android.priority"
	}
	if a.TTL != "" {
		if seconds, ok := duration(a.TTL); !ok || seconds > maxTTL {
			return "message.android.ttl"
		}
	}
	return ""
}

func (m *Message) size() int {
	n := len(m.Notification)
	count := func(data map[string]string) {
		for k, v := range data {
			n += len(k) + len(v)
		}
	}
	count(m.Data)
	if m.Android != nil {
		count(m.Android.Data)
		n += len(m.Android.Notification)
	}
	return n
}

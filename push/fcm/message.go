package fcm

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"firebase.google.com/go/v4/messaging"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/push"
)

// Notification says which kinds of push Android and iOS show by themselves,
// without waking the app.
type Notification string

// The ways.
const (
	// NotificationAuto: calls, cancels and refreshes are data for the app only,
	// without which a phone could not ring; chat and custom pushes are as their
	// templates have it.
	NotificationAuto Notification = "auto"
	// NotificationKeep: every kind is as its template has it.
	NotificationKeep Notification = "keep"
	// NotificationCalls is NotificationAuto, but calls have a notification too.
	NotificationCalls Notification = "calls"
	// NotificationAlways: every kind has one.
	NotificationAlways Notification = "always"
	// NotificationNever: no kind has one on Android, whatever its template says:
	// the app shows what is to be shown.
	NotificationNever Notification = "never"
)

func (m Notification) valid() bool {
	switch m {
	case NotificationAuto, NotificationKeep, NotificationCalls, NotificationAlways, NotificationNever:
		return true
	}
	return false
}

// templateRules bring the project's templates into line with Notification, and
// find what FCM would not take.
func (c *Config) templateRules() push.TemplateRules {
	return push.TemplateRules{
		Edit: func(kind push.Kind, _ pnparam.Service, text []byte) ([]byte, push.Own, error) {
			text, err := c.Notification.edit(kind, text)
			return text, push.Own{}, err
		},
		Check:       checkMessage,
		MessageName: messageName,
		FromMessage: fromMessage,
	}
}

// notice is what is shown for a kind whose template says nothing.
func notice(kind push.Kind) string {
	switch kind {
	case push.Call:
		return `{"title":"{TITLE}","body":"{BODY}"}`
	case push.Cancel:
		return `{"title":"Call ended","body":"{FROMDISPLAYNAME}"}`
	case push.Chat:
		return `{"title":"{FROMDISPLAYNAME}","body":"{BODY}"}`
	case push.Refresh:
		return `{"title":"Phone","body":"Staying reachable"}`
	}
	return `{"title":"{TITLE}","body":"{BODY}"}`
}

// edit gives or takes the notification of a template's text.
func (m Notification) edit(kind push.Kind, text []byte) ([]byte, error) {
	shown := kind == push.Chat || kind == push.Custom
	switch {
	case m == NotificationNever:
		return take(text)
	case m == NotificationKeep, m == NotificationAuto && shown:
		return text, nil
	case m == NotificationAlways, m == NotificationCalls && kind == push.Call:
		return give(kind, text)
	case shown:
		return text, nil
	}
	return take(text)
}

// give adds a notification where there is none.
func give(kind push.Kind, text []byte) ([]byte, error) {
	m, android, err := parts(text)
	if err != nil {
		return nil, err
	}
	if m["notification"] != nil {
		return text, nil
	}
	m["notification"] = json.RawMessage(notice(kind))
	if android["notification"] == nil {
		android["notification"] = json.RawMessage(`{"sound":"{SOUND}"}`)
	}
	return join(m, android)
}

// take removes the notification, also that for Android alone. What is for
// iPhones alone stays: without an alert they would not ring at all.
func take(text []byte) ([]byte, error) {
	m, android, err := parts(text)
	if err != nil {
		return nil, err
	}
	if m["notification"] == nil && android["notification"] == nil {
		return text, nil
	}
	delete(m, "notification")
	delete(android, "notification")
	return join(m, android)
}

// parts takes a message apart.
func parts(text []byte) (message, android map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(text, &message); err != nil {
		return nil, nil, errors.New(jsonProblem(err))
	}
	android = make(map[string]json.RawMessage)
	if part := message["android"]; part != nil {
		if err := json.Unmarshal(part, &android); err != nil {
			return nil, nil, errors.New("android must be a JSON object")
		}
	}
	if android == nil { // it was null
		android = make(map[string]json.RawMessage)
	}
	return message, android, nil
}

func join(message, android map[string]json.RawMessage) ([]byte, error) {
	if len(android) > 0 {
		part, err := json.Marshal(android)
		if err != nil {
			return nil, err
		}
		message["android"] = part
	}
	return json.Marshal(message)
}

// checkMessage finds what is wrong with a filled template. Unknown fields are,
// because they would be left out without a word.
func checkMessage(payload []byte) error {
	var shape struct {
		Data         map[string]string       `json:"data"`
		Notification *messaging.Notification `json:"notification"`
		Android      map[string]any          `json:"android"`
		Webpush      map[string]any          `json:"webpush"`
		APNS         struct {
			Headers           map[string]string `json:"headers"`
			Payload           map[string]any    `json:"payload"`
			FCMOptions        json.RawMessage   `json:"fcm_options"`
			LiveActivityToken string            `json:"live_activity_token"`
		} `json:"apns"`
		FCMOptions json.RawMessage `json:"fcm_options"`
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	err := d.Decode(&shape)
	if err == nil {
		err = json.Unmarshal(payload, new(messaging.Message))
	}
	switch wrongType := (*json.UnmarshalTypeError)(nil); {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		return fmt.Errorf("it is not a Message of the FCM v1 API: %s", jsonProblem(err))
	default: // it quotes the sample at most
		return fmt.Errorf("it is not a Message of the FCM v1 API: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
}

// message is the payload with what only the provider knows, token and time to
// live, and what the template does not say: priority, without which Android
// keeps the push back while the phone dozes, and the headers for an iPhone.
func message(n *push.Notification, now time.Time) (*messaging.Message, error) {
	m := new(messaging.Message)
	if err := json.Unmarshal(n.Payload, m); err != nil {
		return nil, errors.New("the payload is not a Message of the FCM v1 API: " + jsonProblem(err))
	}
	m.Token, m.Topic, m.Condition = n.Token.Reveal(), "", ""
	if m.Android == nil {
		m.Android = new(messaging.AndroidConfig)
	}
	m.Android.Priority = cmp.Or(m.Android.Priority, string(n.Priority), string(push.High))
	if n.CollapseID != "" {
		m.Android.CollapseKey = n.CollapseID
	}
	if m.Android.TTL == nil {
		ttl := n.TTL(now).Truncate(time.Second)
		m.Android.TTL = &ttl
	}
	if m.APNS != nil || m.Notification != nil { // else there is nothing for an iPhone
		addHeaders(m, n, now)
	}
	return m, nil
}

// addHeaders says to Apple what sipwake itself would say.
func addHeaders(m *messaging.Message, n *push.Notification, now time.Time) {
	if m.APNS == nil {
		m.APNS = new(messaging.APNSConfig)
	}
	expiration := int64(0)
	if !n.Expires.IsZero() {
		expiration = n.Expires.Unix()
	}
	headers := map[string]string{
		"apns-push-type":  cmp.Or(string(n.PushType), string(push.TypeAlert)),
		"apns-priority":   strconv.Itoa(n.ApplePriority()),
		"apns-expiration": strconv.FormatInt(expiration, 10),
	}
	for name, value := range m.APNS.Headers { // the template's own
		if strings.EqualFold(name, "apns-expiration") {
			value = expires(value, now)
		}
		headers[strings.ToLower(name)] = value
	}
	m.APNS.Headers = headers
}

// expires makes a time of the seconds that a template may have for it, as {TTLNUM} is:
// to Apple they would be a day in 1970.
func expires(value string, now time.Time) string {
	const most = 28 * 24 * 60 * 60
	if seconds, err := strconv.Atoi(value); err == nil && 0 < seconds && seconds <= most {
		return strconv.FormatInt(now.Unix()+int64(seconds), 10)
	}
	return value
}

// jsonProblem names the place without quoting what is there.
func jsonProblem(err error) string {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		what := wrongType.Type.String()
		switch wrongType.Type.Kind() {
		case reflect.Struct, reflect.Map:
			what = "JSON object"
		case reflect.Slice:
			what = "list"
		case reflect.Bool:
			what = "boolean"
		}
		return fmt.Sprintf("%s must be a %s", wrongType.Field, what)
	}
	return "it is not valid JSON"
}

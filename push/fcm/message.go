package fcm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"firebase.google.com/go/v4/messaging"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// Notification says which kinds of push Android and iOS show themselves, without
// waking the app.
type Notification string

// The modes.
const (
	// NotificationAuto sends calls, cancels and refreshes as data messages for the
	// app, without which a phone could not ring. Chat and custom pushes follow their
	// templates.
	NotificationAuto Notification = "auto"
	// NotificationKeep leaves every kind as its template has it.
	NotificationKeep Notification = "keep"
	// NotificationCalls is NotificationAuto with a notification for calls, too.
	NotificationCalls Notification = "calls"
	// NotificationAlways gives every kind a notification.
	NotificationAlways Notification = "always"
	// NotificationNever removes the notification on Android from every kind,
	// whatever its template says: the app displays everything itself.
	NotificationNever Notification = "never"
)

func (m Notification) valid() bool {
	switch m {
	case NotificationAuto, NotificationKeep, NotificationCalls, NotificationAlways, NotificationNever:
		return true
	}
	return false
}

// templateRules adapts the project's templates to Notification, and finds what FCM
// would reject.
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

// notice returns the text for a kind whose template has none.
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

// edit adds the notification to a template's text, or removes it.
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

// give adds a notification if there is none.
func give(kind push.Kind, text []byte) ([]byte, error) {
	m, android, err := parts(text)
	if err != nil {
		return nil, err
	}
	if m["notification"] != nil {
		return text, nil
	}
	m["notification"] = json.RawMessage(notice(kind))
	if android["notification"] == nil && m["android_v2"] == nil {
		android["notification"] = json.RawMessage(`{"sound":"{SOUND}"}`)
	}
	return join(m, android)
}

// take removes the notification, including the one for Android only. The part for
// iPhones only stays: without an alert they would not ring at all.
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

// parts splits a message into its fields.
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

// outgoing is a message for the SDK, with what is added to the text that the SDK
// makes of it.
type outgoing struct {
	*messaging.Message
	payload []byte                     // the template's payload, for the unsaid fields
	v2      map[string]json.RawMessage // the message's android_v2; nil if there is none
	fid     bool                       // the token is a Firebase installation ID
}

// message builds the message from the payload. It adds what only the provider knows
// (token and time to live) and what the template lacks: the priority, without which
// Android delays the push while the phone is in Doze, and the headers for an iPhone.
// A labelled message is one that Google is later asked about, by kind.
func message(n *push.Notification, now time.Time, labelled bool) (*outgoing, error) {
	m := new(messaging.Message)
	if err := json.Unmarshal(n.Payload, m); err != nil {
		return nil, errors.New("the payload is not a Message of the FCM v1 API: " + jsonProblem(err))
	}
	m.Token, m.Topic, m.Condition = n.Token.Reveal(), "", ""
	out := &outgoing{Message: m, payload: n.Payload, fid: installationID(m.Token)}
	var err error
	if labelled && m.FCMOptions == nil {
		m.FCMOptions = &messaging.FCMOptions{AnalyticsLabel: labelPrefix + string(n.Kind)}
	}
	if out.v2, err = androidV2(n, now); err != nil {
		return nil, err
	}
	if out.v2 == nil {
		setAndroid(m, n, now)
	}
	if m.APNS != nil || m.Notification != nil { // otherwise there is nothing for an iPhone
		addHeaders(m, n, now)
	}
	return out, nil
}

func setAndroid(m *messaging.Message, n *push.Notification, now time.Time) {
	if m.Android == nil {
		m.Android = new(messaging.AndroidConfig)
	}
	m.Android.Priority = cmp.Or(m.Android.Priority, string(n.Priority), string(push.High))
	if wasted(n.Kind, m) {
		m.Android.Priority = string(push.Normal)
	}
	if n.CollapseID != "" {
		m.Android.CollapseKey = n.CollapseID
	}
	if m.Android.TTL == nil {
		ttl := n.TTL(now).Truncate(time.Second)
		m.Android.TTL = &ttl
	}
}

// wasted reports whether Android would count high priority against the app: for a
// cancel or refresh that shows nothing. After several of these the app's calls arrive
// late.
func wasted(kind push.Kind, m *messaging.Message) bool {
	shown := m.Notification != nil || m.Android != nil && m.Android.Notification != nil
	return (kind == push.Cancel || kind == push.Refresh) && !shown
}

// doubts returns the kinds whose templates want what wasted refuses.
func doubts(templates *push.Templates) []string {
	rendered, _ := templates.Render("", push.PrivacyNone, push.SampleValues()) // they have been filled before
	var list []string
	for _, r := range rendered {
		m := new(messaging.Message)
		if json.Unmarshal(r.Payload, m) == nil && wasted(r.Kind, m) && m.Android != nil && m.Android.Priority == string(push.High) {
			list = append(list, string(r.Kind)+" pushes have high priority and show nothing, "+
				"for which Android lowers the priority of calls: they go with normal")
		}
	}
	return list
}

// androidV2 returns the template's android_v2 with time to live and collapse key. Its
// urgency follows from its type: remote_notification or background_sync.
func androidV2(n *push.Notification, now time.Time) (map[string]json.RawMessage, error) {
	at := path{"android_v2"}
	if !at.in(n.Payload) {
		return nil, nil
	}
	text, err := at.find(n.Payload)
	if err != nil || text == nil {
		return nil, err
	}
	var v2 map[string]json.RawMessage
	if err := json.Unmarshal(text, &v2); err != nil || v2 == nil {
		return nil, err // of a filled template, which has been checked
	}
	if v2["ttl"] == nil {
		v2["ttl"] = fmt.Appendf(nil, `"%ds"`, n.TTL(now)/time.Second)
	}
	if n.CollapseID != "" {
		if v2["collapse_key"], err = json.Marshal(n.CollapseID); err != nil {
			return nil, err
		}
	}
	return v2, nil
}

// complete adds to a request's body what the SDK cannot express.
func (o *outgoing) complete(body []byte) ([]byte, error) {
	extra := o.v2 != nil || o.fid
	for _, p := range unsaid {
		extra = extra || p.in(o.payload)
	}
	if !extra {
		return body, nil
	}
	var request map[string]json.RawMessage
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	text := request["message"]
	var err error
	for _, p := range unsaid {
		if text, err = p.copy(o.payload, text); err != nil {
			return nil, err
		}
	}
	var message map[string]json.RawMessage
	if err := json.Unmarshal(text, &message); err != nil {
		return nil, err
	}
	if o.v2 != nil {
		if message["android_v2"], err = json.Marshal(o.v2); err != nil {
			return nil, err
		}
	}
	if o.fid {
		message["fid"] = message["token"]
		delete(message, "token")
	}
	if request["message"], err = json.Marshal(message); err != nil {
		return nil, err
	}
	return json.Marshal(request)
}

// installationID reports whether the token is a Firebase installation ID. A
// registration token is longer: it begins with an installation ID and a colon.
func installationID(token string) bool { return pnparam.InstallationID(token) == token }

// addHeaders sets the headers for Apple that sipwake itself would send.
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
	for name, value := range m.APNS.Headers { // those of the template
		if strings.EqualFold(name, "apns-expiration") {
			value = expires(value, now)
		}
		headers[strings.ToLower(name)] = value
	}
	m.APNS.Headers = headers
}

// expires converts the seconds that a template may have as a time, as with {TTLNUM}.
// Apple would take them for a day in 1970.
func expires(value string, now time.Time) string {
	const most = 28 * 24 * 60 * 60
	if seconds, err := strconv.Atoi(value); err == nil && 0 < seconds && seconds <= most {
		return strconv.FormatInt(now.Unix()+int64(seconds), 10)
	}
	return value
}

// jsonProblem names the place of the error without quoting its contents.
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

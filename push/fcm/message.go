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
	if android["notification"] == nil && m["android_v2"] == nil {
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

// outgoing is a message for the SDK, and what is written into the text that it makes
// of it.
type outgoing struct {
	*messaging.Message
	payload []byte                     // the template's, for what is unsaid
	v2      map[string]json.RawMessage // what android_v2 gets; nil without one
	fid     bool                       // the token is a Firebase installation ID
}

// message is the payload with what only the provider knows, token and time to
// live, and what the template does not say: priority, without which Android
// keeps the push back while the phone dozes, and the headers for an iPhone.
// A labelled message is one that Google is asked about later, by kind.
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
	if m.APNS != nil || m.Notification != nil { // else there is nothing for an iPhone
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

// wasted reports whether Android would hold high priority against the app: a cancel or
// refresh that shows nothing. After some of them the app's calls come late.
func wasted(kind push.Kind, m *messaging.Message) bool {
	shown := m.Notification != nil || m.Android != nil && m.Android.Notification != nil
	return (kind == push.Cancel || kind == push.Refresh) && !shown
}

// doubts are the kinds whose templates want what wasted refuses.
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

// androidV2 is the template's android_v2 with time to live and collapse key. Its
// urgency is in what it is: remote_notification or background_sync.
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

// complete writes into a request's body what the SDK cannot say.
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
// registration token is longer: it begins with one, and a colon.
func installationID(token string) bool { return pnparam.InstallationID(token) == token }

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

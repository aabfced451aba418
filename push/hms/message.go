package hms

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/sipwake/sipwake/push"
)

const (
	// maxMessage is the maximum length of a message without the token, in bytes.
	maxMessage = 4096
	// maxPayload leaves room for what message adds to a template: the second
	// escaping of quotes, and the delivery options.
	maxPayload = 3500
	maxTTL     = 15 * 24 * time.Hour
)

// dataKeys are the keys that apps find in the data of other push services.
const dataKeys = `"ntype":"{TYPE}","nfromusername":"{FROMUSERNAME}","nfrom":"{FROM}","nmsg":"{MSG}","ncallid":"{CALLID}","ntousr":"{TOUSER}",` +
	`"nfromuri":"{FROMURI}","handle":"{FROMUSERNAME}","callUUID":"{UUID}","display":"{FROMDISPLAYNAME}","media":"{MEDIA}","{DATA}":null`

// defaults returns the default templates: a Message of Push Kit without its target,
// whose data may be an object. Data without a notification goes to the app. The
// categories are for apps that Huawei has granted the right to use them.
func defaults() map[push.Kind]string {
	const shown = `{"data":{` + dataKeys + `},"notification":{"title":"{TITLE}","body":"{BODY}"},"android":{"notification":{"click_action":{"type":3}}`
	return map[push.Kind]string{
		push.Call:    `{"data":{` + dataKeys + `},"android":{"category":"VOIP"}}`,
		push.Chat:    shown + `,"category":"IM"}}`,
		push.Custom:  shown + `}}`,
		push.Cancel:  `{"data":{` + dataKeys + `}}`,
		push.Refresh: `{"data":{` + dataKeys + `}}`,
	}
}

// check returns what is wrong with a payload.
func check(payload []byte) error {
	var m struct {
		Token, Topic, Condition json.RawMessage
		Android                 map[string]json.RawMessage
	}
	if err := json.Unmarshal(payload, &m); err != nil {
		return errors.New("android: must be an object")
	}
	if m.Token != nil || m.Topic != nil || m.Condition != nil {
		return errors.New("must not have token, topic and condition: the push goes to one phone")
	}
	return nil
}

// message returns the body of a request. Its errors quote nothing.
func message(n *push.Notification, now time.Time) ([]byte, error) {
	var m map[string]json.RawMessage
	android := make(map[string]json.RawMessage)
	if json.Unmarshal(n.Payload, &m) != nil || m["android"] != nil && json.Unmarshal(m["android"], &android) != nil {
		return nil, errors.New("the payload is not a message")
	}
	if data := m["data"]; len(data) > 0 && data[0] == '{' {
		m["data"] = quoted(string(data)) // Push Kit accepts only text
	}
	seconds := int64((min(n.TTL(now), maxTTL) + time.Second - 1) / time.Second)
	urgency := "HIGH"
	if n.Priority == push.Normal {
		urgency = "NORMAL"
	}
	for name, value := range map[string]string{"ttl": strconv.FormatInt(max(1, seconds), 10) + "s", "urgency": urgency} {
		if android[name] == nil {
			android[name] = quoted(value)
		}
	}
	token := n.Token.Reveal()
	var err error
	if m["android"], err = json.Marshal(android); err != nil {
		return nil, errors.New("the payload is not a message")
	}
	m["token"] = json.RawMessage("[" + string(quoted(token)) + "]")
	body, err := json.Marshal(map[string]any{"message": m})
	switch {
	case err != nil:
		return nil, errors.New("the payload is not a message")
	case len(body)-len(token) > maxMessage:
		return nil, errors.New("the message is longer than 4096 bytes")
	}
	return body, nil
}

func quoted(s string) json.RawMessage {
	b, _ := json.Marshal(s) // a string never fails
	return b
}

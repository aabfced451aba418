package apns

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// takeHeaders removes the object "headers" from a template, as other gateways have
// it. It means nothing to the app, but its delivery settings are applied.
func takeHeaders(kind push.Kind, service pnparam.Service, text []byte) ([]byte, push.Own, error) {
	var own push.Own
	var payload map[string]json.RawMessage
	if err := json.Unmarshal(text, &payload); err != nil || payload["headers"] == nil {
		return text, own, nil
	}
	var headers map[string]any
	if err := json.Unmarshal(payload["headers"], &headers); err != nil {
		return nil, own, errors.New("headers: must be an object of APNs' headers; an app's own data needs another name")
	}
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if problem := setHeader(&own, kind, service, strings.ToLower(name), fmt.Sprint(headers[name])); problem != "" {
			return nil, own, fmt.Errorf("headers.%s: %s", name, problem)
		}
	}
	if own.PushType == push.TypeBackground && own.Priority == push.High {
		return nil, own, errors.New("headers.apns-priority: must be 5, because apns-push-type is background")
	}
	delete(payload, "headers")
	text, err := json.Marshal(payload)
	return text, own, err
}

// setHeader reads one header and returns what is wrong with it. A keyword stands for
// an option of the app, which then decides.
func setHeader(own *push.Own, kind push.Kind, service pnparam.Service, name, value string) (problem string) {
	switch name {
	case "apns-priority":
		switch value {
		case "{APRIORITY}":
		case "10":
			own.Priority = push.High
		case "5":
			own.Priority = push.Normal
		default:
			return "must be 10, 5 or {APRIORITY}"
		}
	case "apns-push-type":
		return setPushType(own, kind, service, value)
	case "apns-expiration":
		if value == "{TTLNUM}" {
			return ""
		}
		const most = 28 * 24 * 60 * 60
		seconds, err := strconv.Atoi(value)
		if err != nil || seconds < 0 || seconds > most {
			return fmt.Sprintf("must be {TTLNUM} or seconds from 0 to %d", most)
		}
		ttl := time.Duration(seconds) * time.Second
		own.TTL = &ttl
	case "apns-topic":
		if value != "{PACKAGE}" && value != "{PACKAGE}.voip" {
			return "must be {PACKAGE} or {PACKAGE}.voip; another one is set by topic of the app"
		}
	default:
		return "cannot be set by a template"
	}
	return ""
}

func setPushType(own *push.Own, kind push.Kind, service pnparam.Service, value string) (problem string) {
	t := push.Type(value)
	switch {
	case value == "{PUSHTYPE}":
	case t == push.TypeVoIP && kind == push.Call && service != pnparam.Remote: // by the token
	case t == push.TypeVoIP:
		return "voip is only for calls, and for voip tokens"
	case t != push.TypeAlert && t != push.TypeBackground:
		return "must be alert, background, voip or {PUSHTYPE}"
	case service == pnparam.VoIP:
		return "must be voip for a voip token"
	default:
		own.PushType = t
	}
	return ""
}

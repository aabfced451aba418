package apns

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/sipwake/sipwake/push"
)

const messageName = "pushkitmessage.txt"

// fromMessage makes the template for one kind from the single payload that MPUSH
// sends for all, by PushKit. A call uses it unchanged. Other kinds go to the other
// token: they use the payload's data, but show an alert or nothing, depending on the
// kind.
func fromMessage(kind push.Kind, message, text []byte) ([]byte, error) {
	if kind == push.Call {
		return message, nil
	}
	var own, ours map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(message, &own), json.Unmarshal(text, &ours)); err != nil {
		return nil, err
	}
	var aps struct {
		Alert json.RawMessage `json:"alert"`
	}
	silent := kind == push.Cancel || kind == push.Refresh
	if json.Unmarshal(own["aps"], &aps) != nil || aps.Alert == nil || silent {
		own["aps"] = ours["aps"]
	}
	var headers map[string]json.RawMessage
	if json.Unmarshal(own["headers"], &headers) == nil {
		// These headers are for a call.
		maps.DeleteFunc(headers, func(name string, _ json.RawMessage) bool {
			name = strings.ToLower(name)
			return name == "apns-push-type" || name == "apns-expiration" || name == "apns-priority" && silent
		})
		part, err := json.Marshal(headers)
		if err != nil {
			return nil, err
		}
		own["headers"] = part
	}
	return json.Marshal(own)
}

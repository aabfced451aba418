package webpush

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// declarativeType is the Content-Type that marks a declarative push message for
// Safari, which shows it without a service worker.
const declarativeType = "application/notification+json"

// declare recognizes templates that are declarative push messages by the member that
// the Push API defines for it, and finds what a browser would not show.
func declare(_ push.Kind, _ pnparam.Service, text []byte) ([]byte, push.Own, error) {
	var own push.Own
	var message struct {
		WebPush      json.RawMessage `json:"web_push"`
		Headers      json.RawMessage `json:"headers"`
		Notification *struct {
			Title    string `json:"title"`
			Navigate string `json:"navigate"`
		} `json:"notification"`
	}
	err := json.Unmarshal(text, &message)
	switch n := message.Notification; {
	case message.Headers != nil:
		return nil, own, errors.New("headers: cannot be set by a template: ttl is set for the app, " +
			"the Content-Type follows from web_push")
	case string(message.WebPush) != "8030":
		return text, own, nil
	case err != nil || n == nil:
		return nil, own, errors.New("notification: must be an object with title and navigate, because web_push is 8030")
	case n.Title == "":
		return nil, own, errors.New("notification.title: must be set, because web_push is 8030")
	case !strings.HasPrefix(n.Navigate, "https://") && !strings.HasPrefix(n.Navigate, "/"):
		return nil, own, errors.New("notification.navigate: must be an https URL or a path, because web_push is 8030")
	}
	own.ContentType = declarativeType
	return text, own, nil
}

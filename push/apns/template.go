package apns

import (
	"encoding/json"
	"errors"
	"strings"
)

var errHeaders = errors.New("headers: apns- headers are no part of what the app gets: " +
	"leave them out, and set priority, push_type, ttl and topic of the app instead")

// checkPayload finds the headers that templates of other gateways hold: as payload they
// would do nothing. Other keys of that name are the app's own.
func checkPayload(payload []byte) error {
	var shape struct {
		Headers map[string]json.RawMessage `json:"headers"`
	}
	if json.Unmarshal(payload, &shape) != nil {
		return nil // it is something else
	}
	for name := range shape.Headers {
		if strings.HasPrefix(strings.ToLower(name), "apns-") {
			return errHeaders
		}
	}
	return nil
}

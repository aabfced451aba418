package fcm

import (
	"encoding/json"

	"github.com/sipwake/sipwake/push"
)

const messageName = "fcmmessage.txt"

// fromMessage makes the template for every kind from the single request that MPUSH
// sends: its message without the target, which sipwake fills in.
func fromMessage(_ push.Kind, message, _ []byte) ([]byte, error) {
	var request map[string]json.RawMessage
	if err := json.Unmarshal(message, &request); err != nil {
		return nil, err
	}
	if request["message"] != nil {
		inner := request["message"]
		request = nil
		if err := json.Unmarshal(inner, &request); err != nil {
			return nil, err
		}
	}
	for _, target := range []string{"token", "topic", "condition"} {
		delete(request, target)
	}
	return json.Marshal(request)
}

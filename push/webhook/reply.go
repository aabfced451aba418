package webhook

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/push"
)

const maxID = 128 // bytes

// reply translates the service's answer.
func (p *Provider) reply(status int, header http.Header, body []byte, token string) push.Reply {
	var answer struct {
		ID     string      `json:"id"`
		Reason push.Reason `json:"reason"`
	}
	// If it is not JSON, only the status counts.
	_ = json.Unmarshal(body, &answer)
	found := outcome(p.answers, status, answer.Reason)
	r := push.Reply{Reason: found.Reason, About: found.About}
	if r.Reason == push.Accepted {
		if len(answer.ID) <= maxID && push.Visible(answer.ID) && !strings.Contains(answer.ID, token) {
			r.ID = answer.ID
		}
		return r
	}
	r.Detail = "HTTP " + strconv.Itoa(status)
	if r.Reason == push.Throttled || r.Reason == push.Unavailable {
		r.RetryAfter = push.RetryAfter(header.Get("Retry-After"), time.Now())
	}
	return r
}

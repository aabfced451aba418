package webhook

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
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
	// What is not JSON has only its status to tell.
	_ = json.Unmarshal(body, &answer)
	found := outcome(p.answers, status, answer.Reason)
	r := push.Reply{Reason: found.Reason, About: found.About}
	if r.Reason == push.Accepted {
		if len(answer.ID) <= maxID && visible(answer.ID) && !strings.Contains(answer.ID, token) {
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

// noAnswer explains a try that got no status. The error itself may quote the
// URL, in which there may be a key.
func noAnswer(ctx context.Context, err error) push.Reply {
	if reply, ended := push.Ended(ctx); ended {
		return reply
	}
	return push.Reply{Reason: push.Unavailable, Detail: problem(err), Starved: push.Starved(err)}
}

func problem(err error) string {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		errno       syscall.Errno
	)
	switch {
	case errors.As(err, &dns):
		return "the name in url cannot be resolved"
	case errors.As(err, &certificate):
		return "the certificate of url is not valid"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return "the connection was lost"
}

// visible reports whether s has visible ASCII characters only.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

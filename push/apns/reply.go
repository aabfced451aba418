package apns

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/push"
)

// reply translates Apple's answer. A status without a readable reason comes from an
// intermediary, and is no evidence about a token.
func (p *Provider) reply(x *exchange) push.Reply {
	if x.resp.Status == http.StatusOK {
		return push.Reply{Reason: push.Accepted, ID: x.header("apns-id")}
	}
	reason := word(x.answer.Reason)
	found := p.answers.Find(x.resp.Status, reason)
	r := push.Reply{Reason: found.Reason, About: found.About, Detail: reason}
	switch r.Reason {
	case push.TokenDead:
		r.DeadSince = x.answer.deadSince()
	case push.Throttled, push.Unavailable:
		r.RetryAfter = push.RetryAfter(x.header("retry-after"), time.Now())
	}
	switch reason {
	case "":
		r.Detail = "HTTP " + strconv.Itoa(x.resp.Status)
	case badEnvironmentKeyID, badEnvironmentKey:
		r.Detail += ": the key is not for " + string(p.env)
	}
	return r
}

// noAnswer explains a try that got no status.
func (p *Provider) noAnswer(ctx context.Context, err error, token string) push.Reply {
	if reply, ended := push.Ended(ctx); ended {
		return reply
	}
	text := err.Error()
	r := push.Reply{Reason: push.Unavailable, Detail: push.Clean(text, token), Starved: push.Starved(err)}
	if p.signer == nil && certificateRefused(text) {
		r.Reason = push.Credential
	}
	return r
}

// certificateRefused reports whether the TLS handshake failed the way Apple's does
// for a certificate that is revoked, expired or not for push (RFC 8446 section 6.2).
func certificateRefused(text string) bool {
	_, alert, ok := strings.Cut(text, "remote error: tls: ")
	return ok && (strings.Contains(alert, "certificate") || alert == "access denied" || alert == "handshake failure")
}

// word returns s as one of Apple's reasons, or "" if s is not a single word.
func word(s string) string {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	if len(s) > 64 {
		return ""
	}
	return s
}

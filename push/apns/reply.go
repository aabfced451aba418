package apns

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sideshow/apns2"

	"github.com/sipwake/sipwake/push"
)

const maxDetail = 200 // bytes, by push.Reply

// reply translates Apple's answer. A status without a reason that we can read
// comes from something on the way and is no evidence about a token.
func (a answer) reply(x *exchange) push.Reply {
	r := push.Reply{Reason: a.outcome(x.status), Detail: word(a.Reason), ID: x.header.Get("apns-id")}
	switch r.Reason {
	case push.Accepted:
		r.Detail = ""
		return r
	case push.TokenDead:
		r.DeadSince = a.deadSince()
	case push.Throttled, push.Unavailable:
		r.RetryAfter = push.RetryAfter(x.header.Get("Retry-After"), time.Now())
	}
	if r.Detail == "" {
		r.Detail = "HTTP " + strconv.Itoa(x.status)
	}
	r.ID = ""
	return r
}

func (a answer) outcome(status int) push.Reason {
	switch {
	case status == http.StatusOK:
		return push.Accepted
	case status == http.StatusGone:
		if a.Reason == apns2.ReasonUnregistered || a.Reason == apns2.ReasonExpiredToken {
			return push.TokenDead
		}
		return push.TokenBad
	case status == http.StatusForbidden, status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired:
		return push.Credential
	case status == http.StatusTooManyRequests:
		return push.Throttled
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout:
		return push.Unavailable
	case status == http.StatusBadRequest:
		switch a.Reason {
		case apns2.ReasonBadDeviceToken, apns2.ReasonDeviceTokenNotForTopic:
			return push.TokenBad
		case apns2.ReasonIdleTimeout: // the connection's, not the request's
			return push.Unavailable
		}
	}
	return push.BadRequest
}

// noAnswer explains a try that got no status. The error of net/http quotes the
// URL, which holds the token, so only the transport's own error is looked at.
func (p *Provider) noAnswer(ctx context.Context, x *exchange, err error, token string) push.Reply {
	if reply, ended := push.Ended(ctx); ended {
		return reply
	}
	if x.err == nil && err != nil {
		// The request never got as far as the transport.
		return push.Reply{Reason: push.BadRequest, Detail: "the payload is not valid JSON"}
	}
	text := x.err.Error()
	r := push.Reply{Reason: push.Unavailable, Detail: clean(text, token)}
	if p.signer == nil && certificateRefused(text) {
		r.Reason = push.Credential
	}
	return r
}

// certificateRefused tells whether the TLS handshake ended as Apple ends it for
// a certificate that is revoked, expired or not for push (RFC 8446 section 6.2).
func certificateRefused(text string) bool {
	_, alert, ok := strings.Cut(text, "remote error: tls: ")
	return ok && (strings.Contains(alert, "certificate") || alert == "access denied" || alert == "handshake failure")
}

// clean makes the text of a foreign error safe to show.
func clean(text, token string) string {
	text = strings.ReplaceAll(text, token, "<token>")
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, text)
	return text[:min(len(text), maxDetail)]
}

// word is a reason of Apple's, or nothing if s is not a single word.
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

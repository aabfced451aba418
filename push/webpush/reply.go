package webpush

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

// reply translates the service's answer. trusted: it has taken a push with the
// same signature before.
func (x *exchange) reply(trusted bool) push.Reply {
	word := x.word()
	r := push.Reply{Reason: outcome(x.status, word, trusted)}
	switch r.Reason {
	case push.Accepted:
		return r
	case push.Throttled, push.Unavailable:
		r.RetryAfter = push.RetryAfter(x.header.Get("Retry-After"), time.Now())
	}
	r.Detail = "HTTP " + strconv.Itoa(x.status)
	if word != "" {
		r.Detail += " " + word
	}
	return r
}

func outcome(status int, word string, trusted bool) push.Reason {
	refused := status >= http.StatusBadRequest && status < http.StatusInternalServerError
	switch {
	case refused && word == "BadJwtToken":
		return push.Credential
	case refused && word == "VapidPkHashMismatch":
		return push.TokenBad
	}
	switch status {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return push.Accepted
	case http.StatusNotFound, http.StatusGone:
		return push.TokenDead
	case http.StatusForbidden:
		if trusted {
			return push.TokenBad
		}
		return push.Credential
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return push.Credential
	case http.StatusNotAcceptable, http.StatusTooManyRequests:
		return push.Throttled
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return push.Unavailable
	}
	if status >= http.StatusInternalServerError {
		return push.Unavailable
	}
	return push.BadRequest
}

// word is the service's own word for a refusal: "reason" of Apple's, "error" of
// Mozilla's and Google's JSON. Anything else than a word is dropped, and so is a
// piece of the push URI.
func (x *exchange) word() string {
	var body struct {
		Reason string `json:"reason"`
		Error  any    `json:"error"` // Google has an object here
	}
	if json.Unmarshal(x.body, &body) != nil {
		return ""
	}
	s := body.Reason
	if text, ok := body.Error.(string); s == "" && ok {
		s = text
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_ "
	if len(s) > 64 || strings.Trim(s, letters) != "" || strings.Contains(x.token, s) {
		return ""
	}
	return s
}

// busy explains a push that got no slot at its push service.
func busy(ctx context.Context) push.Reply {
	if errors.Is(ctx.Err(), context.Canceled) {
		return push.Reply{Reason: push.Dropped, Detail: "cancelled"}
	}
	return push.Reply{Reason: push.Throttled, Detail: "too many requests to the push service are under way"}
}

// noAnswer explains a try that got no status. The error itself may name the
// host, which is part of the token.
func noAnswer(ctx context.Context, err error) push.Reply {
	if reply, ended := push.Ended(ctx); ended {
		return reply
	}
	return push.Reply{Reason: push.Unavailable, Detail: problem(err)}
}

func problem(err error) string {
	var (
		dns         *net.DNSError
		certificate *tls.CertificateVerificationError
		errno       syscall.Errno
	)
	switch {
	case errors.Is(err, errNotPublic):
		// The host is one that is allowed: not the token is wrong, but our DNS.
		return "the push service's name leads to an address that is not a public one"
	case errors.As(err, &dns):
		return "the push service's name cannot be resolved"
	case errors.As(err, &certificate):
		return "the push service's certificate is not valid"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return "the connection was lost"
}

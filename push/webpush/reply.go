package webpush

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/push"
)

// reply translates the service's answer. trusted means that the service has accepted
// a push with the same signature before.
func (x *exchange) reply(answers push.Answers, trusted bool) push.Reply {
	switch x.status {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return push.Reply{Reason: push.Accepted}
	}
	word := x.word()
	key := word
	if trusted && x.status == http.StatusForbidden && word != badJWT && word != keyMismatch {
		key = takenBefore
	}
	found := answers.Find(x.status, key)
	r := push.Reply{Reason: found.Reason, About: found.About, Detail: "HTTP " + strconv.Itoa(x.status)}
	if r.Reason == push.Throttled || r.Reason == push.Unavailable {
		r.RetryAfter = push.RetryAfter(x.header.Get("Retry-After"), time.Now())
	}
	if word != "" {
		r.Detail += " " + word
	}
	return r
}

// word returns the service's own word for a refusal: "reason" in Apple's JSON,
// "error" in Mozilla's and Google's. It drops anything that is not a word, and any
// part of the push URI.
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

// blameToken returns the reply for a push service that only the token names. What
// that service says about our credential, or where its name leads, concerns that
// token only, because anyone can run such a service.
func blameToken(e endpoint, r push.Reply, err error) push.Reply {
	if e.guest != "" && (r.About == push.AboutCredential || errors.Is(err, errNotPublic)) {
		r.Reason, r.About = push.TokenBad, push.AboutToken
	}
	return r
}

// busy explains a push that got no slot at its push service.
func busy(ctx context.Context) push.Reply {
	if errors.Is(ctx.Err(), context.Canceled) {
		return push.Reply{Reason: push.Dropped, Detail: "cancelled"}
	}
	return push.Reply{Reason: push.Throttled, Detail: "too many requests to the push service are under way"}
}

// noAnswer explains a try that got no status. The error itself may name the host,
// which is part of the token.
func noAnswer(ctx context.Context, err error) push.Reply {
	r := push.NoAnswer(ctx, err, "")
	if r.Reason == push.Unavailable && errors.Is(err, errNotPublic) {
		// The host is allowed: so our DNS is wrong, not the token.
		r.Detail = "the push service's name leads to an address that is not a public one"
	}
	return r
}

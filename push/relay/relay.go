// Package relay pushes through another sipwake: that of the app's maker, which holds
// the app's credentials. This sipwake needs only a token. Each push is a call of the
// RPC method push.relay, with the address and the values of the push. The other side
// builds the payload from the maker's templates, and returns the push service's
// answer.
//
// A push has an ID that is the same in all of its tries, and the other side sends the
// push of an ID once. A retry whose first answer was lost or late gets the result of
// the first try. policy.privacy withholds what the maker need not know.
package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// values is the template: everything that a push has, in the form that push.relay
// takes.
const values = `{"aor":"{TO}","from":"{FROMURI}","user":"{FROM}","display":"{FROMDISPLAYNAME}","call_id":"{CALLID}","uuid":"{UUID}",` +
	`"media":"{MEDIA}","title":"{TITLE}","body":"{BODY}","called":"{CALLED}","called_uri":"{CALLEDURI}","verstat":"{VERSTAT}",` +
	`"reason":"{REASON}","headers":{"{HEADERS}":null},"data":{"{DATA}":null}}`

// pendingPause is the minimum time between two requests for one push in flight.
const pendingPause = 250 * time.Millisecond

// The JSON-RPC error codes of sipwake that a relay may return.
const (
	codeNotAuthorised = -32001
	codeOverloaded    = -32002
	codeNoStore       = -32003
)

// Provider pushes for one push provider (pn-provider). Safe for concurrent use.
type Provider struct {
	provider pnparam.Provider
	url      string
	token    secret.Text
	poster   *push.Poster
	answers  push.Answers
}

var (
	_ push.Provider = (*Provider)(nil)
	_ push.Prober   = (*Provider)(nil)
)

// params are the parameters of push.relay.
type params struct {
	ID          string              `json:"id"`
	Kind        push.Kind           `json:"kind"`
	Provider    pnparam.Provider    `json:"provider"`
	App         string              `json:"app"`
	Environment pnparam.Environment `json:"environment,omitempty"`
	Service     pnparam.Service     `json:"service,omitempty"`
	Token       string              `json:"token"`
	P256dh      string              `json:"p256dh,omitempty"`
	Auth        string              `json:"auth,omitempty"`
	TTL         int64               `json:"ttl_s"`
	Values      json.RawMessage     `json:"values,omitempty"`
}

// answer is a JSON-RPC response of push.relay.
type answer struct {
	Result struct {
		State      string      `json:"state"`
		Reason     push.Reason `json:"reason"`
		About      push.About  `json:"about"`
		Detail     string      `json:"detail"`
		ID         string      `json:"push_id"`
		RetryAfter float64     `json:"retry_after_s"`
		DeadSince  time.Time   `json:"dead_since"`
	} `json:"result"`
	Error *struct {
		Code int `json:"code"`
	} `json:"error"`
}

// Close implements push.Provider.
func (p *Provider) Close() { p.poster.Close() }

// Probe implements push.Prober. It requests a push that cannot be sent, so that the
// other side checks only the token.
func (p *Provider) Probe(ctx context.Context) error {
	posted, a, err := p.call(ctx, struct{}{})
	switch {
	case err != nil:
		return fmt.Errorf("cannot connect: %s", push.NoAnswer(ctx, err, "url").Detail)
	case posted.Status == http.StatusOK && a.Error != nil && a.Error.Code == -32602: // invalid params
		return nil
	case posted.Status == http.StatusUnauthorized:
		return errors.New("the relay refuses the token")
	}
	return fmt.Errorf("the relay answers HTTP %d, not as a sipwake that relays", posted.Status)
}

// Push implements push.Provider. It repeats the request until ctx ends while the
// other side says that the push is in flight.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	defer p.poster.Use()()
	q := params{ID: n.Identity(), Kind: n.Kind, Provider: p.provider, App: n.App, Environment: n.Environment, Service: n.Service,
		Token: n.Token.Reveal(), TTL: max(1, n.SecondsLeft(time.Now())), Values: n.Payload}
	if n.Keys != nil {
		q.P256dh, q.Auth = n.Keys.P256dh.Reveal(), n.Keys.Auth.Reveal()
	}
	for {
		next := time.After(pendingPause) // the other side has usually waited longer before it says so
		posted, a, err := p.call(ctx, q)
		if err != nil {
			return push.NoAnswer(ctx, err, "url")
		}
		if posted.Status != http.StatusOK || a.Error != nil || a.Result.State != "pending" {
			return p.reply(posted, a)
		}
		select {
		case <-next:
		case <-ctx.Done():
			reply, _ := push.Ended(ctx)
			return reply
		}
	}
}

// call makes one request.
func (p *Provider) call(ctx context.Context, q any) (push.Posted, answer, error) {
	var a answer
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "push.relay", "params": q})
	if err != nil {
		return push.Posted{}, a, errors.New("the payload is not valid JSON")
	}
	// The nil key is not sent, but makes net/http repeat a request whose connection
	// had just been closed. The ID says that it is the same push.
	posted, err := p.poster.Post(ctx, p.url, http.Header{"Authorization": {"Bearer " + p.token.Reveal()}, "Idempotency-Key": nil}, body)
	if err == nil {
		_ = json.Unmarshal(posted.Body, &a) // if it is not JSON, only the status counts
	}
	return posted, a, err
}

// reply translates an answer.
func (p *Provider) reply(posted push.Posted, a answer) push.Reply {
	status := posted.Status
	r := push.Reply{Detail: "HTTP " + strconv.Itoa(status)}
	switch {
	case a.Error != nil:
		found := p.answers.Find(statusOf(a.Error.Code), "")
		r.Reason, r.About, r.Detail = found.Reason, found.About, "the relay says "+strconv.Itoa(a.Error.Code)
	case status != http.StatusOK:
		found := p.answers.Find(status, "")
		r.Reason, r.About = found.Reason, found.About
	case a.Result.Reason == "": // not an answer of sipwake
		r.Reason, r.About = push.Unavailable, push.AboutService
	case a.Result.Reason == push.Accepted:
		return push.Reply{Reason: push.Accepted, ID: bounded(a.Result.ID)}
	default:
		found := p.answers.Find(status, string(a.Result.Reason))
		r = push.Reply{Reason: found.Reason, About: found.About, Detail: bounded(a.Result.Detail), DeadSince: a.Result.DeadSince}
		if found.Reason == a.Result.Reason && slices.Contains(push.Abouts(), a.Result.About) {
			r.About = a.Result.About
		}
		if s := a.Result.RetryAfter; s > 0 && s < 3600 {
			r.RetryAfter = time.Duration(s * float64(time.Second))
		}
		return r
	}
	if r.Reason == push.Throttled || r.Reason == push.Unavailable {
		r.RetryAfter = push.RetryAfter(posted.Header.Get("Retry-After"), time.Now())
	}
	return r
}

// statusOf returns the HTTP status that corresponds to an error code.
func statusOf(code int) int {
	switch code {
	case codeNotAuthorised:
		return http.StatusUnauthorized
	case codeOverloaded:
		return http.StatusTooManyRequests
	case codeNoStore:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// bounded makes a word from the other side fit for a log.
func bounded(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, s)
	return s[:min(len(s), 200)]
}

// Package webhook passes pushes to a service of the operator, so that any push
// service can be attached without changing sipwake.
//
// Each try of a push is one POST with the headers
//
//	Content-Type: application/json
//	Idempotency-Key: <id>
//	X-Sipwake-Signature: t=<seconds since 1970>,v1=<hexadecimal>
//
// and a body of
//
//	{
//	  "id": "…",            the same in every try of one push: push it once
//	  "kind": "call",       or chat, cancel, custom, refresh
//	  "provider": "hms",    the pn-provider
//	  "app": "…",           the package: the pn-param, may be empty
//	  "token": "…",         the pn-prid
//	  "ttl_s": 20,          for how many seconds the push is of use
//	  "payload": {…}        the template's, filled in
//	}
//
// v1 is the HMAC-SHA256, keyed with the contents of secret_file, of the header's t, a
// dot and the body as received. The receiver should compare in constant time, and
// refuse a t that is minutes off its own clock. If an answer about the credential has
// a Date header that differs from our time, one more request follows at once, signed
// for that time.
//
// 2xx accepts a push. Answers has the others. Redirects are not followed.
//
// Retry-After, in seconds or as a date, says when to try again after 429 and whenever
// the service is unavailable. A JSON body can be more specific than the status:
// {"reason": "…"} with one of token_dead, token_bad, credential, bad_request,
// throttled, unavailable, or, with 2xx, accepted. Any other word is ignored. For an
// accepted push, {"id": "…"} is the push service's own name for it, up to 128 visible
// ASCII characters.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

const signatureHeader = "X-Sipwake-Signature"

// Provider pushes for one package. Safe for concurrent use.
type Provider struct {
	provider pnparam.Provider
	app      string
	url      string
	sign     func(now time.Time, text []byte) string // holds the key, so that fmt cannot print it
	poster   *push.Poster
	skew     *push.Skew
	answers  push.Answers
}

var (
	_ push.Provider = (*Provider)(nil)
	_ push.Prober   = (*Provider)(nil)
)

// body is what is posted.
type body struct {
	ID       string           `json:"id"`
	Kind     push.Kind        `json:"kind"`
	Provider pnparam.Provider `json:"provider"`
	App      string           `json:"app"`
	Token    string           `json:"token"`
	TTL      int64            `json:"ttl_s"`
	Payload  json.RawMessage  `json:"payload,omitempty"`
}

// Close implements push.Provider.
func (p *Provider) Close() { p.poster.Close() }

// Probe implements push.Prober: it opens a connection without sending a request.
func (p *Provider) Probe(ctx context.Context) error {
	return push.ProbeConnection(ctx, p.poster.Transport, "url", p.url)
}

// Push implements push.Provider. It makes one request. It sends it again only if the
// service had already closed an idle connection, or if the service refuses the
// signature and its clock differs from ours.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	defer p.poster.Use()()
	if n.Token.Empty() {
		return push.Reply{Reason: push.NoToken, Detail: "there is no token"}
	}
	id := n.Identity()
	text, err := json.Marshal(body{
		ID: id, Kind: n.Kind, Provider: p.provider, App: p.app, Token: n.Token.Reveal(),
		TTL: n.SecondsLeft(time.Now()), Payload: n.Payload,
	})
	if err != nil { // the error may quote the payload
		return push.Reply{Reason: push.BadRequest, Detail: "the payload is not valid JSON"}
	}
	by := p.skew.By()
	r, header := p.post(ctx, id, text, n.Token.Reveal())
	if r.Reason != push.Credential {
		return r
	}
	p.skew.Learn(header.Get("Date"), time.Now())
	if p.skew.By() != by && ctx.Err() == nil { // another push may have learned it
		r, _ = p.post(ctx, id, text, n.Token.Reveal())
	}
	return r
}

// post makes one request. The returned header is that of the answer, if any.
func (p *Provider) post(ctx context.Context, id string, text []byte, token string) (push.Reply, http.Header) {
	answer, err := p.poster.Post(ctx, p.url, http.Header{
		"Idempotency-Key": {id}, signatureHeader: {p.sign(p.skew.At(time.Now()), text)},
	}, text)
	if err != nil {
		return push.NoAnswer(ctx, err, "url"), nil
	}
	return p.reply(answer.Status, answer.Header, answer.Body, token), answer.Header
}

// signer returns a function that makes the value of the signature header.
func signer(key secret.Text) func(now time.Time, text []byte) string {
	return func(now time.Time, text []byte) string {
		t := strconv.FormatInt(now.Unix(), 10)
		mac := hmac.New(sha256.New, []byte(key.Reveal()))
		mac.Write([]byte(t + "."))
		mac.Write(text)
		return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
	}
}

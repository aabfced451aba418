// Package webpush pushes through Web Push services: RFC 8030, with VAPID (RFC
// 8292) to identify the sender.
//
// A push to a plain RFC 8599 subscription has no payload: it only wakes the client,
// which then registers. If the client gave the keys of its subscription, the payload
// is encrypted for it by RFC 8291, and the push service cannot read it.
//
// The token of a device is a URL from an untrusted party, and sipwake has to call it.
// So sipwake calls only https, only hosts that the configuration allows, and only
// public addresses, which it checks for the actual address of each connection. It
// follows no redirects, uses no proxy, reads little of an answer, and gives one push
// service only a share of the requests in flight.
//
// The URL is the token, so nothing that leaves the package quotes any part of it. An
// accepted push has no ID either, because the service's ID is also a URL, with which
// the push can be withdrawn.
//
// 200, 201, 202 and 204 accept a push. Answers has the others.
package webpush

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

const (
	openTimeout = 5 * time.Second
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
	idleTimeout = 10 * time.Minute
	// maxConns limits the connections to one push service. Each carries about a
	// hundred pushes at a time.
	maxConns = 8
	// maxGuestConns is the same for an unlisted push service.
	maxGuestConns = 2
	maxAnswer     = 4096
	maxHeader     = 32 << 10
	maxTopic      = 32 // bytes, RFC 8030 section 5.4
)

// Provider pushes to the subscriptions of one VAPID key. Safe for concurrent use.
type Provider struct {
	rules   []hostRule
	vapid   *vapid
	origins *origins
	guests  *guests  // nil unless unlisted hosts may be called
	strange *origins // those of guests
	answers push.Answers
}

var _ push.Provider = (*Provider)(nil)

// control is a net.Dialer's ControlContext: it checks each address before it is
// connected to. Nil allows any address.
type control func(ctx context.Context, network, address string, c syscall.RawConn) error

// newTransport makes connections to one push service, at most conns.
func newTransport(config *tls.Config, check control, resolver *net.Resolver, conns int) *http.Transport {
	dialer := &net.Dialer{Timeout: openTimeout, KeepAlive: pingAfter, Resolver: resolver, ControlContext: check}
	return &http.Transport{
		Proxy:                  nil, // a proxy would resolve the names itself, and could be asked for anything
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config.Clone(),
		TLSHandshakeTimeout:    openTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxConnsPerHost:        conns,
		MaxIdleConnsPerHost:    conns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingTimeout,
			WriteByteTimeout: pingTimeout,
		},
	}
}

// Close implements push.Provider.
func (p *Provider) Close() {
	p.origins.close()
	p.strange.close()
}

// Push implements push.Provider. It makes one request. It makes a second one only if
// the service refuses the signature and by the service's clock another one is due.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	return p.PushEncrypted(ctx, n, n.Keys)
}

// PushEncrypted is Push for a subscription with known keys: any payload is encrypted
// with them. Without keys there is no payload.
//
// While the push service has its full share of requests in flight, the push waits: as
// long as ctx allows, or half a second if the service answers none of them.
func (p *Provider) PushEncrypted(ctx context.Context, n *push.Notification, keys *pnparam.WebPushKeys) push.Reply {
	token := n.Token.Reveal()
	if token == "" {
		return push.Reply{Reason: push.NoToken, Detail: "there is no token"}
	}
	e, ok := allow(p.rules, p.guests, token)
	if !ok {
		return push.Reply{Reason: push.TokenBad, Detail: "the token is not an https URL of a push service that is allowed"}
	}
	req, err := request(ctx, e, n, keys)
	switch {
	case errors.Is(err, errKeys):
		return push.Reply{Reason: push.TokenBad, Detail: err.Error()}
	case errors.Is(err, errTooLong):
		return push.Reply{Reason: push.BadRequest, Detail: err.Error()}
	case err != nil: // the error may quote the URL
		return push.Reply{Reason: push.BadRequest, Detail: "the request cannot be made"}
	}
	origins := p.origins
	if e.guest != "" {
		if !p.guests.enter(e.guest, time.Now()) {
			return push.Reply{Reason: push.Throttled, Detail: "too many pushes to this push service, or to all that are not in hosts"}
		}
		defer p.guests.leave(e.guest)
		origins = p.strange
	}
	o := origins.enter(e.origin)
	if o == nil {
		return push.Reply{Reason: push.Throttled, Detail: "pushes to too many push services are under way"}
	}
	defer origins.leave(o)
	if !o.take(ctx) {
		return busy(ctx)
	}
	x := &exchange{token: token, endpoint: e, origins: origins}
	defer func() { o.give(ctx, x.status != 0) }()
	for try := 1; ; try++ {
		text, err := o.authorize(p.vapid, time.Now())
		if err != nil {
			return push.Reply{Reason: push.Credential, Detail: "the VAPID token cannot be signed"}
		}
		r := p.exchange(ctx, o, req, x, text)
		if try > 1 || x.status == 0 || r.Reason != push.Credential || !o.correct(text, x.header, time.Now()) || ctx.Err() != nil {
			return r
		}
		if req, err = request(ctx, e, n, keys); err != nil { // as above
			return r
		}
	}
}

// exchange sends the request with our signature and stores the answer in x.
func (p *Provider) exchange(ctx context.Context, o *origin, req *http.Request, x *exchange, text string) push.Reply {
	req.Header.Set("Authorization", text)
	x.status = 0
	x.err = x.origins.roundTrip(o, req, x.read)
	if x.status == 0 {
		return blameToken(x.endpoint, noAnswer(ctx, x.err), x.err)
	}
	r := blameToken(x.endpoint, x.reply(p.answers, o.trusts(text)), nil)
	if r.Reason == push.Accepted {
		o.accepted(text)
	}
	return r
}

// request builds the push by RFC 8030 section 5, without our signature.
func request(ctx context.Context, e endpoint, n *push.Notification, keys *pnparam.WebPushKeys) (*http.Request, error) {
	var body []byte
	if keys != nil && len(n.Payload) > 0 {
		var err error
		if body, err = encrypt(n.Payload, keys); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	h := req.Header
	h.Set("TTL", strconv.FormatInt(int64(n.TTL(time.Now())/time.Second), 10))
	h.Set("Urgency", urgency(n.Kind))
	h.Set("User-Agent", "sipwake")
	if n.CollapseID != "" {
		h.Set("Topic", topic(n.CollapseID))
	}
	if len(body) > 0 {
		h.Set("Content-Encoding", "aes128gcm")
		h.Set("Content-Type", cmp.Or(n.ContentType, "application/octet-stream"))
	}
	return req, nil
}

// urgency follows RFC 8030 section 5.3: "high" reaches a device with a low battery,
// "normal" one that is on neither power nor Wi-Fi.
func urgency(k push.Kind) string {
	if k == push.Call || k == push.Cancel {
		return "high"
	}
	return "normal"
}

// topic makes any string fit the header: a string that does not fit is hashed. Apple
// refuses lengths that are impossible in base64.
func topic(s string) string {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(s) <= maxTopic && len(s)%4 != 1 && strings.Trim(s, allowed) == "" {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

// exchange is the answer to a request.
type exchange struct {
	token    string
	endpoint endpoint
	origins  *origins

	status int // 0 without an answer
	header http.Header
	body   []byte
	err    error // from the network
}

func (x *exchange) read(resp *http.Response) {
	x.status, x.header = resp.StatusCode, resp.Header
	// A truncated body does not change the status.
	x.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}

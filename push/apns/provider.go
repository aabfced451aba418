// Package apns pushes through the Apple Push Notification service over HTTP/2,
// with a .p8 key (token authentication) or a push certificate.
//
// It takes hosts, types and reasons from sideshow/apns2. The requests and connections
// are our own: they cost a third, and handle what that library leaves out:
// "apns-expiration: 0", the status, headers and body of any answer, provider tokens
// that are signed again when Apple calls them expired, and a second connection when
// the first one fails.
package apns

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"

	"github.com/sideshow/apns2"
	"github.com/valyala/fastjson"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

const (
	minDeviceToken = 8
	maxDeviceToken = 256
	maxCollapseID  = 64 // bytes, Apple's limit
	maxAnswer      = 4096
)

// Provider pushes to one APNs environment with one credential for one topic. It is
// immutable.
type Provider struct {
	host    string
	lanes   *lanes
	signer  *signer // nil with a certificate
	topic   string
	voip    string // topic of VoIP pushes
	env     pnparam.Environment
	answers push.Answers

	users push.Users // of all connections
}

var (
	_ push.Provider = (*Provider)(nil)
	_ push.Prober   = (*Provider)(nil)
)

// newProvider does not connect. A nil s means that config contains a certificate.
func newProvider(endpoint *url.URL, config *tls.Config, connections int, client HTTP2, s *signer, topic string, env pnparam.Environment) *Provider {
	return &Provider{host: endpoint.Host, lanes: newLanes(endpoint, config, connections, client), signer: s,
		topic: topic, voip: topic + ".voip", env: env, answers: push.NewAnswers(Answers())}
}

// Close implements push.Provider.
func (p *Provider) Close() {
	if p.users.Close() {
		p.lanes.close()
	}
}

// Probe implements push.Prober. It opens a connection, on which Apple checks a
// certificate, but not a key.
func (p *Provider) Probe(ctx context.Context) error {
	l := p.lanes.pick()
	c, err := l.acquire(ctx)
	if err != nil {
		return fmt.Errorf("cannot connect to APNs: %w", err)
	}
	l.release(c)
	return nil
}

// Push implements push.Provider. It makes one request. It makes a second one only if
// Apple refuses the provider token for its age, asks for another connection, or did
// not process the first. A VoIP token is refused for any kind but a call: iOS kills
// an app that receives a VoIP push and has no call to report, and then stops waking
// it.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	p.users.Enter()
	defer func() {
		if p.users.Leave() {
			p.lanes.close()
		}
	}()
	out, refusal := p.outline(n)
	if refusal != nil {
		return *refusal
	}
	x := exchanges.Get().(*exchange)
	defer x.free()
	for try := 1; ; try++ {
		x.prepare(p.host, &out)
		if p.signer != nil {
			var err error
			if x.bearer, err = p.signer.bearer(); err != nil {
				return push.Reply{Reason: push.Credential, Detail: "the provider token cannot be signed"}
			}
			x.req.Literal = x.bearer.header
		}
		if err := p.lanes.pick().roundTrip(ctx, x); err != nil {
			return p.noAnswer(ctx, err, out.DeviceToken)
		}
		if again := p.heed(x); again && try == 1 && ctx.Err() == nil {
			continue
		}
		return p.reply(x)
	}
}

// heed acts on the answer and reports whether the same push, which Apple did not
// process, may be sent again now.
func (p *Provider) heed(x *exchange) (again bool) {
	switch {
	case x.unusable(): // so the connection is no longer used
		return true
	case p.signer == nil:
		return false
	}
	switch x.answer.Reason {
	case expiredProviderToken, missingProviderToken:
		return p.signer.correct(x.bearer.text, x.header("date")) || p.signer.resign(x.bearer.text)
	case invalidProviderToken: // a wrong key, or a fast clock
		return p.signer.correct(x.bearer.text, x.header("date"))
	case tooManyProviderTokenUpdates:
		p.signer.keepPrevious(x.bearer.text)
	}
	return false
}

// outline returns the push in the form that Apple gets.
func (p *Provider) outline(n *push.Notification) (outline, *push.Reply) {
	out := outline{
		Notification: apns2.Notification{
			DeviceToken: n.Token.Reveal(),
			Topic:       p.topic,
			PushType:    apns2.EPushType(n.PushType),
			Priority:    n.ApplePriority(),
			CollapseID:  collapseID(n.CollapseID),
		},
		payload: n.Payload, expiration: expiration(n),
	}
	if out.PushType == "" {
		out.PushType = apns2.PushTypeAlert
	}
	switch {
	case out.DeviceToken == "":
		return out, &push.Reply{Reason: push.NoToken, Detail: "there is no token"}
	case n.Service == pnparam.VoIP && n.Kind == push.Call:
		out.Topic = p.voip
		out.PushType = apns2.PushTypeVOIP
	case n.Service == pnparam.VoIP:
		return out, &push.Reply{Reason: push.NoToken, Detail: "a voip token is only for calls"}
	case n.Service != pnparam.Remote && n.Service != "":
		return out, &push.Reply{Reason: push.NoToken, Detail: "the token's service is not known"}
	}
	// The token becomes part of a URL.
	if !deviceToken(out.DeviceToken) {
		return out, &push.Reply{Reason: push.TokenBad, Detail: "the token is not that of an APNs device"}
	}
	if fastjson.ValidateBytes(out.payload) != nil {
		return out, &push.Reply{Reason: push.BadRequest, Detail: "the payload is not valid JSON"}
	}
	return out, nil
}

// expiration returns until when Apple may store the push. Without the header Apple
// would store it for up to 30 days.
func expiration(n *push.Notification) string {
	if n.Expires.IsZero() {
		return neverStore
	}
	return strconv.FormatInt(n.Expires.Unix(), 10)
}

// deviceToken reports whether s can be an APNs token. Apple issues hexadecimal tokens
// of varying length. Anything that needs no escaping in a URL is left for Apple to
// check.
func deviceToken(s string) bool {
	if len(s) < minDeviceToken || len(s) > maxDeviceToken {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// collapseID makes any string fit the header: a string that does not fit is hashed.
func collapseID(s string) string {
	fits := len(s) <= maxCollapseID
	for i := 0; i < len(s) && fits; i++ {
		fits = s[i] > ' ' && s[i] < 0x7f
	}
	if fits {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

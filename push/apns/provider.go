// Package apns pushes through the Apple Push Notification service over HTTP/2,
// with a .p8 key (token authentication) or a push certificate.
//
// It uses sideshow/apns2 to form requests, and a transport of its own for what
// that library leaves out: "apns-expiration: 0", the answer's status, headers
// and body whatever they are, provider tokens that are signed again when Apple
// calls them expired, and a second connection when the first one fails.
package apns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/push"
)

const (
	minDeviceToken = 8
	maxDeviceToken = 256
	maxCollapseID  = 64 // bytes, by Apple
	maxAnswer      = 4096
)

// Provider pushes to one APNs environment with one credential for one topic. It
// never changes after it is made.
type Provider struct {
	client  *apns2.Client
	lanes   *lanes
	signer  *signer // nil with a certificate
	topic   string
	env     pnparam.Environment
	answers push.Answers

	inFlight atomic.Int64
	closed   atomic.Bool
}

var (
	_ push.Provider = (*Provider)(nil)
	_ push.Prober   = (*Provider)(nil)
)

// newProvider does not connect. A nil s means that config holds a certificate.
func newProvider(endpoint *url.URL, config *tls.Config, connections int, s *signer, topic string, env pnparam.Environment) *Provider {
	p := &Provider{lanes: newLanes(endpoint, config, connections), signer: s, topic: topic, env: env, answers: push.NewAnswers(Answers())}
	p.client = &apns2.Client{
		Host: "https://" + endpoint.Host,
		HTTPClient: &http.Client{
			Transport:     transport{p.lanes},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	return p
}

// Close implements push.Provider.
func (p *Provider) Close() {
	p.closed.Store(true)
	if p.inFlight.Load() == 0 {
		p.lanes.close()
	}
}

// Probe implements push.Prober: it opens a connection, in which Apple sees a
// certificate, but no key.
func (p *Provider) Probe(ctx context.Context) error {
	l := p.lanes.pick()
	c, err := l.acquire(ctx)
	if err != nil {
		return fmt.Errorf("cannot connect to APNs: %w", err)
	}
	l.release(c)
	return nil
}

// Push implements push.Provider. It makes one request, and a second one only if
// Apple says that the provider token is expired, that it wants another connection
// or that it did not process the first. A voip token is refused for any kind but a call: iOS kills an app that
// gets a voip push and has no call to report, and then stops waking it.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	p.inFlight.Add(1)
	defer func() {
		if p.inFlight.Add(-1) == 0 && p.closed.Load() {
			p.lanes.close()
		}
	}()
	out, refusal := p.outline(n)
	if refusal != nil {
		return *refusal
	}
	for try := 1; ; try++ {
		x := &exchange{payload: n.Payload, expiration: expiration(n)}
		if p.signer != nil {
			bearer, err := p.signer.bearer()
			if err != nil {
				return push.Reply{Reason: push.Credential, Detail: "the provider token cannot be signed"}
			}
			x.bearer = bearer
		}
		_, err := p.client.PushWithContext(context.WithValue(ctx, exchangeKey{}, x), out)
		if x.status == 0 {
			return p.noAnswer(ctx, x, err, n.Token.Reveal())
		}
		if again := p.heed(x); again && try == 1 && ctx.Err() == nil {
			continue
		}
		return p.reply(x)
	}
}

// heed does what the answer asks for and tells whether the same push, which
// Apple did not process, may go now.
func (p *Provider) heed(x *exchange) (again bool) {
	switch {
	case x.unusable(): // and so the connection has been left
		return true
	case p.signer == nil:
		return false
	}
	switch x.answer.Reason {
	case expiredProviderToken, missingProviderToken:
		return p.signer.resign(x.bearer)
	case tooManyProviderTokenUpdates:
		p.signer.keepPrevious(x.bearer)
	}
	return false
}

// outline is the request without what only our transport can say.
func (p *Provider) outline(n *push.Notification) (*apns2.Notification, *push.Reply) {
	out := &apns2.Notification{
		DeviceToken: n.Token.Reveal(),
		Topic:       p.topic,
		PushType:    apns2.EPushType(n.PushType),
		Priority:    n.ApplePriority(),
		CollapseID:  collapseID(n.CollapseID),
		Payload:     n.Payload,
	}
	switch {
	case out.DeviceToken == "":
		return nil, &push.Reply{Reason: push.NoToken, Detail: "there is no token"}
	case n.Service == pnparam.VoIP && n.Kind == push.Call:
		out.Topic += ".voip"
		out.PushType = apns2.PushTypeVOIP
	case n.Service == pnparam.VoIP:
		return nil, &push.Reply{Reason: push.NoToken, Detail: "a voip token is only for calls"}
	case n.Service != pnparam.Remote && n.Service != "":
		return nil, &push.Reply{Reason: push.NoToken, Detail: "the token's service is not known"}
	}
	// The token becomes part of a URL.
	if !deviceToken(out.DeviceToken) {
		return nil, &push.Reply{Reason: push.TokenBad, Detail: "the token is not that of an APNs device"}
	}
	return out, nil
}

// expiration is until when Apple may store the push. Without the header it would
// be stored for up to 30 days.
func expiration(n *push.Notification) string {
	if n.Expires.IsZero() {
		return "0"
	}
	return strconv.FormatInt(n.Expires.Unix(), 10)
}

// deviceToken tells whether s can be an APNs token. Apple sends hexadecimal of
// varying length; anything that needs no escaping in a URL is left to Apple.
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

// collapseID makes any string fit for the header: what does not fit is hashed.
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

// exchange carries what apns2 has no place for: to the request, and back from
// the answer. It travels in the request's context.
type exchange struct {
	payload    []byte
	expiration string
	bearer     string

	status int // 0 without an answer
	header http.Header
	answer answer
	err    error // of the network; without URL and so without token
}

// unusable tells whether the answer speaks of the connection that it came over.
func (x *exchange) unusable() bool {
	return x.answer.Reason == unrelatedKeyID || x.answer.Reason == idleTimeout
}

type exchangeKey struct{}

// transport sends the requests of one Provider over its lanes.
type transport struct{ lanes *lanes }

// RoundTrip implements http.RoundTripper. The answer that it returns is empty;
// the true one is in the exchange, where apns2 cannot lose it.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		panic("BUG: a request to APNs without its exchange")
	}
	out := *req
	out.Header = req.Header.Clone()
	out.Header.Set("apns-expiration", x.expiration)
	if x.bearer != "" {
		out.Header.Set("authorization", "bearer "+x.bearer)
	}
	// apns2 escapes <, > and & in the JSON, which could take the payload over
	// Apple's limit: send what the template made.
	setBody := func(r *http.Request) {
		r.GetBody = nil
		r.Body = io.NopCloser(bytes.NewReader(x.payload))
		r.ContentLength = int64(len(x.payload))
	}
	x.err = t.lanes.pick().roundTrip(&out, setBody, func(resp *http.Response) bool {
		x.status, x.header = resp.StatusCode, resp.Header
		// A body that breaks off does not undo the status.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		x.parse(body)
		return !x.unusable()
	})
	if x.err != nil {
		return nil, x.err
	}
	return &http.Response{StatusCode: x.status, Header: x.header, Body: http.NoBody, Request: req}, nil
}

// answer is the body of a refusal.
type answer struct {
	Reason    string `json:"reason"`
	Timestamp int64  `json:"timestamp"` // milliseconds
}

func (x *exchange) parse(body []byte) {
	if x.status != http.StatusOK && json.Unmarshal(body, &x.answer) != nil {
		x.answer = answer{}
	}
}

func (a answer) deadSince() time.Time {
	if a.Timestamp <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(a.Timestamp)
}

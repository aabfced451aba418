// Package fcm pushes through Firebase Cloud Messaging, HTTP v1 API, with a
// service account.
//
// It uses Google's SDK to form requests, with our own transport between the SDK and
// the network. The SDK repeats a request up to five times over seven seconds: that
// can push twice and ignores the call's deadline. It also gets the access token from
// a source that cannot be cancelled. API fields that the SDK does not know are added
// to its requests (see unsaid).
package fcm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"google.golang.org/api/option"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/oauth"
)

const (
	maxToken  = 4096 // bytes; Google promises no limit, real ones have about 160
	maxAnswer = 64 << 10
)

// Provider pushes to one Firebase project. It is immutable.
type Provider struct {
	client  *messaging.Client
	pool    *pool
	source  *source
	data    *data // nil if Google is not asked how pushes fared
	answers push.Answers

	users push.Users // of all connections
}

var (
	_ push.Provider = (*Provider)(nil)
	_ push.Prober   = (*Provider)(nil)
)

// newProvider does not connect.
func newProvider(project, endpoint string, p *pool, s *source) (*Provider, error) {
	hc := &http.Client{
		Transport:     transport{p},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ctx := context.Background() // not kept, since the client is given
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: project},
		option.WithHTTPClient(hc), option.WithEndpoint(strings.TrimSuffix(endpoint, "/")+"/v1"))
	if err != nil {
		return nil, fmt.Errorf("cannot make client of FCM project %q: %w", project, err)
	}
	client, err := app.Messaging(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot make client of FCM project %q: %w", project, err)
	}
	return &Provider{client: client, pool: p, source: s, answers: push.NewAnswers(Answers())}, nil
}

// Close implements push.Provider.
func (p *Provider) Close() {
	if p.users.Close() {
		p.closeIdle()
	}
}

func (p *Provider) closeIdle() {
	p.pool.close()
	p.source.close()
	if p.data != nil {
		p.data.source.close()
	}
}

// Probe implements push.Prober: it gets an access token from Google.
func (p *Provider) Probe(ctx context.Context) error {
	if _, err := p.source.Bearer(ctx); err != nil {
		return errors.New(oauth.Reply(ctx, err).Detail)
	}
	return nil
}

// Push implements push.Provider. It makes one request to FCM, and one for a new
// access token when the present one is about to expire. A token that looks like an
// installation ID but is not known as one gets a second request, as a registration
// token.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	p.users.Enter()
	defer func() {
		if p.users.Leave() {
			p.closeIdle()
		}
	}()
	token := n.Token.Reveal()
	switch {
	case token == "":
		return push.Reply{Reason: push.NoToken, Detail: "there is no token"}
	case !registrationToken(token):
		return push.Reply{Reason: push.TokenBad, Detail: "the token is not that of an FCM device"}
	}
	m, err := message(n, time.Now(), p.data != nil)
	if err != nil {
		return push.Reply{Reason: push.BadRequest, Detail: push.Clean(err.Error(), token)}
	}
	access, err := p.source.Bearer(ctx)
	if err != nil {
		return oauth.Reply(ctx, err)
	}
	r := p.send(ctx, m, access)
	if m.fid && r.Reason == push.TokenDead && ctx.Err() == nil {
		// It looks like an installation ID, but was registered as a token.
		m.fid = false
		r = p.send(ctx, m, access)
	}
	return r
}

// send makes one request.
func (p *Provider) send(ctx context.Context, m *outgoing, access oauth.Token) push.Reply {
	x := &exchange{bearer: access.Text, complete: m.complete}
	id, err := p.client.Send(context.WithValue(ctx, exchangeKey{}, x), m.Message)
	switch {
	case !x.sent && err != nil && ctx.Err() == nil:
		return push.Reply{Reason: push.BadRequest, Detail: push.Clean(err.Error(), m.Token)}
	case x.status == 0:
		return noAnswer(ctx, x, m.Token)
	case x.status == http.StatusOK && id != "":
		return push.Reply{Reason: push.Accepted, ID: id}
	}
	r := x.reply(p.answers)
	if x.status == http.StatusUnauthorized && r.About == push.AboutCredential && p.source.Refused(access) {
		// Our key is fine: the access token was revoked early. The next try uses a
		// new one.
		r.Reason, r.About = push.Unavailable, push.AboutConnection
	}
	return r
}

func registrationToken(s string) bool {
	if len(s) > maxToken {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// exchange carries the access token to the request, and the real answer back. It
// travels in the request's context.
type exchange struct {
	bearer string
	// complete returns the request's body with the fields that the SDK cannot
	// express.
	complete func(body []byte) ([]byte, error)

	sent   bool
	status int // 0 without an answer
	header http.Header
	body   []byte
	err    error // from the network
}

// fill sets the body that is sent.
func (x *exchange) fill(req *http.Request) error {
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close() // only read from
	if err == nil {
		body, err = x.complete(body)
	}
	if err != nil {
		return fmt.Errorf("cannot write message: %w", err)
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return nil
}

type exchangeKey struct{}

// transport sits between the SDK and the network.
type transport struct{ pool *pool }

// RoundTrip implements http.RoundTripper. In every case the SDK sees an answer that
// gives it no reason to repeat the request. The real answer is in the exchange.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok || x.sent {
		panic("BUG: a request to FCM without its exchange, or a second one")
	}
	x.sent = true
	out := *req
	out.Header = req.Header.Clone()
	out.Header.Set("Authorization", "Bearer "+x.bearer)
	if err := x.fill(&out); err != nil {
		x.err = err
		return nil, err
	}
	// net/http sends a POST a second time only if the server declared the first one
	// not processed (RFC 9113 section 8.7).
	x.err = t.pool.roundTrip(&out, func(resp *http.Response) error {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil && resp.StatusCode == http.StatusOK {
			return err // whether it was accepted is unknown
		}
		x.status, x.header, x.body = resp.StatusCode, resp.Header, body
		return nil
	})
	seen := []byte("{}")
	if x.status == http.StatusOK {
		seen = x.body
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: make(http.Header), Request: req,
		Body: io.NopCloser(bytes.NewReader(seen)),
	}, nil
}

package fcm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	gojwt "github.com/golang-jwt/jwt/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/sipwake/sipwake/push"
)

const (
	scope     = "https://www.googleapis.com/auth/firebase.messaging"
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	// clockMargin keeps the issue time in the past for a clock that is ahead a little.
	clockMargin = 10 * time.Second
	// assertionLife is the longest that Google takes.
	assertionLife = time.Hour
	// renewEarly is how long before its end an access token is replaced; pushes
	// go on with the old one meanwhile.
	renewEarly = 5 * time.Minute
	// renewTimeout bounds what the push that renews early may lose by it.
	renewTimeout = time.Second
	renewPause   = 30 * time.Second // after an early renewal that failed
	// lastUse is how long before its end an access token is used for the last time.
	lastUse = 10 * time.Second
	// youngToken is one that must not have been ended early by the service.
	youngToken = time.Minute
)

// accessToken is an OAuth 2.0 access token.
type accessToken struct {
	text    string
	fetched time.Time
	ends    time.Time
}

// renewAt leaves a token of any lifetime most of it.
func (a accessToken) renewAt() time.Time {
	return a.ends.Add(-min(renewEarly, a.ends.Sub(a.fetched)/4))
}

func (a accessToken) usable(now time.Time) bool {
	return a.text != "" && now.Before(a.ends.Add(-min(lastUse, a.ends.Sub(a.fetched)/8)))
}

// source keeps one access token of an account. Of many pushes that need
// another one, one fetches it, inside its own deadline, and the others wait
// inside theirs: no goroutine of its own, and none waits for a stranger's time.
// Safe for concurrent use.
type source struct {
	config    *jwt.Config // of a key; nil where other has the tokens
	other     tokens
	transport *http.Transport
	now       func() time.Time
	skew      *push.Skew

	mu    sync.Mutex
	cur   accessToken
	fetch *fetch    // under way
	pause time.Time // no early renewal until then
}

type fetch struct {
	done chan struct{}
	err  error // valid after done, nil if the caller should look again
}

// bearer returns a token that can be used now. Its errors are *accessError or
// those of ctx.
func (s *source) bearer(ctx context.Context) (accessToken, error) {
	for {
		s.mu.Lock()
		now := s.now()
		cur, f := s.cur, s.fetch
		usable := cur.usable(now)
		if usable && (now.Before(cur.renewAt()) || f != nil || now.Before(s.pause)) {
			s.mu.Unlock()
			return cur, nil
		}
		if f == nil {
			f = &fetch{done: make(chan struct{})}
			s.fetch = f
			s.mu.Unlock()
			return s.renew(ctx, f, cur, usable)
		}
		s.mu.Unlock()
		select {
		case <-f.done:
			if f.err != nil {
				return accessToken{}, f.err
			}
		case <-ctx.Done():
			return accessToken{}, ctx.Err()
		}
	}
}

// renew fetches for all that wait on f. While old is usable it is the answer to
// a failure.
func (s *source) renew(ctx context.Context, f *fetch, old accessToken, usable bool) (accessToken, error) {
	limited := ctx
	if usable {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, renewTimeout)
		defer cancel()
	}
	next, err := s.get(limited)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(f.done)
	s.fetch = nil
	switch {
	case err == nil:
		s.cur = next
		return next, nil
	case usable:
		s.pause = s.now().Add(renewPause)
		return old, nil
	case ctx.Err() == nil: // else it is only this caller's failure
		f.err = err
	}
	return accessToken{}, err
}

// refused notes that FCM did not take the token, and reports whether another one
// may help: not if this one is nearly new.
func (s *source) refused(a accessToken) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(a.fetched) < youngToken {
		return false
	}
	if s.cur.text == a.text {
		s.cur = accessToken{}
	}
	return true
}

func (s *source) close() { s.transport.CloseIdleConnections() }

// accessError is an answer of the token endpoint, or status 0 for none.
type accessError struct {
	status  int
	word    string
	starved bool // as in push.Reply
}

func (e *accessError) Error() string {
	if e.status == 0 {
		return "no access token: " + e.word
	}
	return fmt.Sprintf("no access token: HTTP %d %s", e.status, e.word)
}

// get asks the token endpoint, and once more if it may have refused us for our clock.
func (s *source) get(ctx context.Context) (accessToken, error) {
	a, header, err := s.ask(ctx)
	var ae *accessError
	if errors.As(err, &ae) && ae.refused() && s.skew.Learn(header.Get("Date"), s.now()) {
		a, _, err = s.ask(ctx)
	}
	return a, err
}

// ask makes one request, RFC 7523 section 2.1. The header is that of a refusal.
func (s *source) ask(ctx context.Context) (accessToken, http.Header, error) {
	fetched := s.now()
	if s.other != nil {
		return s.askOther(ctx, fetched)
	}
	text, err := assertion(s.config, s.skew.At(fetched))
	if err != nil {
		return accessToken{}, nil, &accessError{status: 0, word: "the key cannot sign"}
	}
	grant := clientcredentials.Config{
		TokenURL: s.config.TokenURL, AuthStyle: oauth2.AuthStyleInParams,
		EndpointParams: url.Values{"grant_type": {grantType}, "assertion": {text}},
	}
	tok, err := grant.Token(context.WithValue(ctx, oauth2.HTTPClient, client(s.transport)))
	if ctx.Err() != nil && err != nil {
		return accessToken{}, nil, ctx.Err()
	}
	var (
		answer  *oauth2.RetrieveError
		network *url.Error
	)
	switch {
	case errors.As(err, &answer):
		return accessToken{}, answer.Response.Header, &accessError{status: answer.Response.StatusCode, word: word(answer.ErrorCode)}
	case errors.As(err, &network):
		return accessToken{}, nil, &accessError{word: clean(network.Err.Error(), ""), starved: push.Starved(network.Err)}
	case err != nil:
		// Neither the error nor the answer is safe to show.
		return accessToken{}, nil, &accessError{status: 0, word: "the answer is not one of OAuth 2.0"}
	}
	return newAccess(tok, fetched), nil, nil
}

// askOther is ask for an account without a key.
func (s *source) askOther(ctx context.Context, fetched time.Time) (accessToken, http.Header, error) {
	rt := &boundTransport{ctx: ctx, next: s.transport}
	tok, err := s.other(context.WithValue(ctx, oauth2.HTTPClient, client(rt)))
	switch {
	case err != nil && ctx.Err() != nil && !push.Starved(rt.err): // Google's library waits for files until ctx ends
		return accessToken{}, nil, ctx.Err()
	case err != nil || tok.AccessToken == "":
		return accessToken{}, nil, rt.noToken(err)
	}
	return newAccess(tok, fetched), nil, nil
}

func client(rt http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func newAccess(tok *oauth2.Token, fetched time.Time) accessToken {
	ends := fetched.Add(time.Hour)
	switch {
	case !tok.Expiry.IsZero():
		ends = fetched.Add(time.Until(tok.Expiry))
	case tok.ExpiresIn > 0:
		ends = fetched.Add(time.Duration(tok.ExpiresIn) * time.Second)
	}
	return accessToken{text: tok.AccessToken, fetched: fetched, ends: ends}
}

// assertion is the JSON Web Token that asks for an access token now.
func assertion(c *jwt.Config, now time.Time) (string, error) {
	key, err := gojwt.ParseRSAPrivateKeyFromPEM(c.PrivateKey)
	if err != nil {
		return "", err
	}
	issued := now.Add(-clockMargin)
	t := gojwt.NewWithClaims(gojwt.SigningMethodRS256, gojwt.MapClaims{
		"iss": c.Email, "scope": strings.Join(c.Scopes, " "), "aud": c.TokenURL,
		"iat": issued.Unix(), "exp": issued.Add(assertionLife).Unix(),
	})
	t.Header["kid"] = c.PrivateKeyID
	return t.SignedString(key)
}

// refused reports whether the endpoint has something against us or our key.
func (e *accessError) refused() bool {
	return e.status >= http.StatusBadRequest && e.status < http.StatusInternalServerError &&
		e.status != http.StatusRequestTimeout && e.status != http.StatusTooManyRequests
}

// boundTransport gives requests without a context one, and keeps what was answered.
type boundTransport struct {
	ctx    context.Context
	next   http.RoundTripper
	status int
	err    error
	// Of a refusal, for noToken.
	host string
	body []byte
}

// RoundTrip implements http.RoundTripper.
func (t *boundTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req.WithContext(t.ctx))
	if err != nil {
		t.err = err
		return nil, err
	}
	t.err, t.status, t.host = nil, resp.StatusCode, req.URL.Hostname()
	if t.status >= http.StatusBadRequest {
		t.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what broke off says enough
		_ = resp.Body.Close()                                        // only ever read from
		resp.Body = io.NopCloser(bytes.NewReader(t.body))
	}
	return resp, nil
}

// noAccess explains a push for which there was no access token.
func noAccess(ctx context.Context, err error) push.Reply {
	var ae *accessError
	switch {
	case errors.As(err, &ae) && ae.starved:
		return push.Reply{Reason: push.Unavailable, Detail: clean(ae.Error(), ""), Starved: true}
	case errors.Is(ctx.Err(), context.Canceled):
		return push.Reply{Reason: push.Dropped, Detail: "cancelled"}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return push.Reply{Reason: push.Timeout, Detail: "no access token in time"}
	}
	r := push.Reply{Reason: push.Unavailable, Detail: "no access token"}
	if ae != nil {
		r.Detail = clean(ae.Error(), "")
		if ae.refused() {
			r.Reason = push.Credential
		}
	}
	return r
}

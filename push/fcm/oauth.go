package fcm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	gojwt "github.com/golang-jwt/jwt/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/oauth"
)

const (
	scope     = "https://www.googleapis.com/auth/firebase.messaging"
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	// clockMargin keeps the issue time in the past even if our clock is slightly
	// fast.
	clockMargin = 10 * time.Second
	// assertionLife is the longest lifetime that Google accepts.
	assertionLife = time.Hour
)

// source keeps the access tokens of an account.
type source struct {
	*oauth.Source
	config    *jwt.Config // for a key; nil if other provides the tokens
	other     tokens
	transport *http.Transport
	now       func() time.Time
	skew      *push.Skew
}

func newSource(t *http.Transport, skew *push.Skew, now func() time.Time) *source {
	s := &source{transport: t, skew: skew, now: now}
	s.Source = oauth.NewSource(now, s.get)
	return s
}

func (s *source) close() { s.transport.CloseIdleConnections() }

// get asks the token endpoint, and asks again if it may have refused us because of
// our clock.
func (s *source) get(ctx context.Context) (oauth.Token, error) {
	a, header, err := s.ask(ctx)
	var ae *oauth.Error
	if errors.As(err, &ae) && ae.Refused() && s.skew.Learn(header.Get("Date"), s.now()) {
		a, _, err = s.ask(ctx)
	}
	return a, err
}

// ask makes one request (RFC 7523 section 2.1). The header is returned for a refusal.
func (s *source) ask(ctx context.Context) (oauth.Token, http.Header, error) {
	fetched := s.now()
	if s.other != nil {
		return s.askOther(ctx, fetched)
	}
	text, err := assertion(s.config, s.skew.At(fetched))
	if err != nil {
		return oauth.Token{}, nil, &oauth.Error{Word: "the key cannot sign"}
	}
	return oauth.Grant(ctx, s.transport, clientcredentials.Config{
		TokenURL: s.config.TokenURL, AuthStyle: oauth2.AuthStyleInParams,
		EndpointParams: url.Values{"grant_type": {grantType}, "assertion": {text}},
	}, fetched)
}

// askOther is ask for an account without a key.
func (s *source) askOther(ctx context.Context, fetched time.Time) (oauth.Token, http.Header, error) {
	rt := &boundTransport{ctx: ctx, next: s.transport}
	tok, err := s.other(context.WithValue(ctx, oauth2.HTTPClient, oauth.Client(rt)))
	switch {
	case err != nil && ctx.Err() != nil && !push.Starved(rt.err): // Google's library waits for files until ctx ends
		return oauth.Token{}, nil, ctx.Err()
	case err != nil || tok.AccessToken == "":
		return oauth.Token{}, nil, rt.noToken(err)
	}
	return oauth.NewToken(tok, fetched), nil, nil
}

// assertion returns the JSON Web Token that requests an access token now.
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

// boundTransport adds a context to requests without one, and keeps the answer.
type boundTransport struct {
	ctx    context.Context
	next   http.RoundTripper
	status int
	err    error
	// Set for a refusal, for noToken.
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
		t.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // a truncated body says enough
		_ = resp.Body.Close()                                        // only read from
		resp.Body = io.NopCloser(bytes.NewReader(t.body))
	}
	return resp, nil
}

// Package oauth caches OAuth 2.0 access tokens (RFC 6749) for push services that
// require one with each push.
package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/sipwake/sipwake/push"
)

const (
	// renewEarly is how long before its expiry an access token is replaced.
	// Meanwhile pushes use the old one.
	renewEarly = 5 * time.Minute
	// renewTimeout limits the delay of the push that does an early renewal.
	renewTimeout = time.Second
	renewPause   = 30 * time.Second // after a failed early renewal
	// lastUse is how long before its expiry an access token is last used.
	lastUse = 10 * time.Second
	// youngToken is the age below which the service cannot have revoked a token
	// early.
	youngToken = time.Minute
	// defaultLife is the lifetime of a token if the answer gives none.
	defaultLife = time.Hour
)

// Token is an access token.
type Token struct {
	Text    string
	Fetched time.Time
	Ends    time.Time
}

// renewAt returns when to renew. It lets a token of any lifetime be used for most of
// it.
func (a Token) renewAt() time.Time {
	return a.Ends.Add(-min(renewEarly, a.Ends.Sub(a.Fetched)/4))
}

func (a Token) usable(now time.Time) bool {
	return a.Text != "" && now.Before(a.Ends.Add(-min(lastUse, a.Ends.Sub(a.Fetched)/8)))
}

// Source keeps one access token of an account. Of several pushes that need a new
// token, one fetches it within its own deadline, and the others wait within theirs.
// So it needs no goroutine, and no push waits longer than its own deadline. Safe for
// concurrent use.
type Source struct {
	ask func(ctx context.Context) (Token, error)
	now func() time.Time

	mu    sync.Mutex
	cur   Token
	fetch *fetch    // in flight
	pause time.Time // no early renewal until then
}

type fetch struct {
	done chan struct{}
	err  error // valid after done, nil if the caller should look again
}

// NewSource returns a Source without a token, which gets tokens with ask. The errors
// of ask must be *Error or those of ctx.
func NewSource(now func() time.Time, ask func(ctx context.Context) (Token, error)) *Source {
	return &Source{now: now, ask: ask}
}

// Bearer returns a token that is usable now. Its errors are *Error or those of ctx.
func (s *Source) Bearer(ctx context.Context) (Token, error) {
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
				return Token{}, f.err
			}
		case <-ctx.Done():
			return Token{}, ctx.Err()
		}
	}
}

// renew fetches a token for all that wait on f. If it fails, it returns old as long
// as that is usable.
func (s *Source) renew(ctx context.Context, f *fetch, old Token, usable bool) (Token, error) {
	limited := ctx
	if usable {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, renewTimeout)
		defer cancel()
	}
	next, err := s.ask(limited)
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
	case ctx.Err() == nil: // otherwise only this caller has failed
		f.err = err
	}
	return Token{}, err
}

// Refused records that the service refused the token. It reports whether another
// token may help, which is not so if this one is nearly new.
func (s *Source) Refused(a Token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(a.Fetched) < youngToken {
		return false
	}
	if s.cur.Text == a.Text {
		s.cur = Token{}
	}
	return true
}

// Error is an answer of the token endpoint. Status 0 means no answer. It quotes no
// secret.
type Error struct {
	Status  int
	Word    string // an error code of RFC 6749 section 5.2, or ours
	Starved bool   // as in push.Reply
}

// Error implements error.
func (e *Error) Error() string {
	if e.Status == 0 {
		return "no access token: " + e.Word
	}
	return fmt.Sprintf("no access token: HTTP %d %s", e.Status, e.Word)
}

// Refused reports whether the endpoint rejects us or our key.
func (e *Error) Refused() bool {
	return e.Status >= http.StatusBadRequest && e.Status < http.StatusInternalServerError &&
		e.Status != http.StatusRequestTimeout && e.Status != http.StatusTooManyRequests
}

// Reply explains a push for which there was no access token. err is an error of
// Bearer.
func Reply(ctx context.Context, err error) push.Reply {
	var oe *Error
	switch {
	case errors.As(err, &oe) && oe.Starved:
		return push.Reply{Reason: push.Unavailable, Detail: push.Clean(oe.Error(), ""), Starved: true}
	case errors.Is(ctx.Err(), context.Canceled):
		return push.Reply{Reason: push.Dropped, Detail: "cancelled"}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return push.Reply{Reason: push.Timeout, Detail: "no access token in time"}
	}
	r := push.Reply{Reason: push.Unavailable, Detail: "no access token"}
	if oe != nil {
		r.Detail = push.Clean(oe.Error(), "")
		if oe.Refused() {
			r.Reason = push.Credential
		}
	}
	return r
}

// Grant makes one request for a token, with a grant that needs no user (RFC 6749
// section 4.4, RFC 7523 section 2.1). now is when the grant was made. The header is
// returned for a refusal. Its errors are those of Source.
func Grant(ctx context.Context, rt http.RoundTripper, grant clientcredentials.Config, now time.Time) (Token, http.Header, error) {
	tok, err := grant.Token(context.WithValue(ctx, oauth2.HTTPClient, Client(rt)))
	if ctx.Err() != nil && err != nil {
		return Token{}, nil, ctx.Err()
	}
	var (
		answer  *oauth2.RetrieveError
		network *url.Error
	)
	switch {
	case errors.As(err, &answer):
		return Token{}, answer.Response.Header, &Error{Status: answer.Response.StatusCode, Word: push.Word(answer.ErrorCode)}
	case errors.As(err, &network):
		return Token{}, nil, &Error{Word: push.Clean(network.Err.Error(), ""), Starved: push.Starved(network.Err)}
	case err != nil:
		// Neither the error nor the answer is safe to show.
		return Token{}, nil, &Error{Word: "the answer is not one of OAuth 2.0"}
	}
	return NewToken(tok, now), nil, nil
}

// Client returns an HTTP client that does not follow redirects.
func Client(rt http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// NewToken returns a token that was requested at a time on the Source's clock.
func NewToken(tok *oauth2.Token, fetched time.Time) Token {
	ends := fetched.Add(defaultLife)
	switch {
	case !tok.Expiry.IsZero():
		ends = fetched.Add(time.Until(tok.Expiry))
	case tok.ExpiresIn > 0:
		ends = fetched.Add(time.Duration(tok.ExpiresIn) * time.Second)
	}
	return Token{Text: tok.AccessToken, Fetched: fetched, Ends: ends}
}

package oauth_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/oauth"
)

// A caller who gives up takes nobody with him.
func TestLeaderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := oauth.NewSource(time.Now, func(ctx context.Context) (oauth.Token, error) {
			if asked++; asked == 1 {
				<-ctx.Done() // a silent endpoint
				return oauth.Token{}, ctx.Err()
			}
			return oauth.Token{Text: "t", Fetched: time.Now(), Ends: time.Now().Add(time.Hour)}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := s.Bearer(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a silent endpoint: %v", err)
			}
		})
		synctest.Wait()
		for range 10 {
			all.Go(func() {
				if tok, err := s.Bearer(t.Context()); err != nil || tok.Text != "t" {
					t.Errorf("%v %v", tok.Text, err)
				}
			})
		}
		all.Wait()
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// A failure is that of all who wait for it, and says whom it concerns.
func TestReply(t *testing.T) {
	f := func(err error, want push.Reason, starved bool) {
		t.Helper()
		s := oauth.NewSource(time.Now, func(context.Context) (oauth.Token, error) { return oauth.Token{}, err })
		_, err = s.Bearer(t.Context())
		if r := oauth.Reply(t.Context(), err); r.Reason != want || r.Starved != starved {
			t.Errorf("%v: %+v", err, r)
		}
	}
	f(&oauth.Error{Status: 400, Word: "invalid_grant"}, push.Credential, false)
	f(&oauth.Error{Status: 401}, push.Credential, false)
	f(&oauth.Error{Status: 408}, push.Unavailable, false)
	f(&oauth.Error{Status: 429}, push.Unavailable, false)
	f(&oauth.Error{Status: 500}, push.Unavailable, false)
	f(&oauth.Error{Word: "no connection"}, push.Unavailable, false)
	f(&oauth.Error{Word: "no files", Starved: true}, push.Unavailable, true)
}

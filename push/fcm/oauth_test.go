package fcm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2/google"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/oauth"
)

// testSource is a source whose clock the test moves.
func testSource(t *testing.T) (*fcmsim.Server, *source, func(time.Duration)) {
	t.Helper()
	sim, err := fcmsim.Start(fcmsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	file, err := sim.MakeAccount(t.TempDir(), "example")
	if err != nil {
		t.Fatal(err)
	}
	contents, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, err := google.JWTConfigFromJSON(contents, scope)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CA())
	var mu sync.Mutex
	var ahead time.Duration
	s := newSource(newTransport(&tls.Config{RootCAs: roots}), push.NewSkew(slog.New(slog.DiscardHandler), "example", ""), func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	})
	s.config = config
	t.Cleanup(s.close)
	return sim, s, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		ahead += d
	}
}

func get(t *testing.T, s *source) oauth.Token {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a, err := s.Bearer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAccessTokenIsKeptAndRenewedEarly(t *testing.T) {
	sim, s, pass := testSource(t)
	first := get(t, s)
	pass(50 * time.Minute)
	if get(t, s).Text != first.Text {
		t.Error("renewed after 50 minutes of 60")
	}
	pass(6 * time.Minute)
	// The endpoint fails: the old one is still good, and it is not asked again at once.
	sim.BehaveOAuth(fcmsim.Behaviour{Status: 500}, fcmsim.Behaviour{})
	for range 3 {
		if get(t, s).Text != first.Text {
			t.Error("a failed renewal lost the token")
		}
	}
	pass(time.Minute)
	second := get(t, s)
	if second.Text == first.Text {
		t.Error("not renewed")
	}
	if _, grants := sim.Requests(); grants != 2 {
		t.Errorf("%d access tokens", grants)
	}
}

// While one push renews, the others go on; without any token they wait for it.
func TestAccessTokenIsFetchedOnce(t *testing.T) {
	sim, s, pass := testSource(t)
	sim.BehaveOAuth(fcmsim.Behaviour{Delay: 100 * time.Millisecond})
	all := func() {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { get(t, s) })
		}
		wg.Wait()
	}
	all()
	if _, grants := sim.Requests(); grants != 1 {
		t.Errorf("%d access tokens at the start", grants)
	}
	pass(56 * time.Minute)
	all()
	if _, grants := sim.Requests(); grants != 2 {
		t.Errorf("%d access tokens after a renewal", grants)
	}
}

func TestRefusedAccessToken(t *testing.T) {
	_, s, pass := testSource(t)
	first := get(t, s)
	if s.Refused(first) {
		t.Error("a new token was refused: another one will be too")
	}
	pass(10 * time.Minute)
	if !s.Refused(first) {
		t.Error("an older token may have been ended early")
	}
	second := get(t, s)
	if second.Text == first.Text {
		t.Error("the refused token is still used")
	}
	s.Refused(first) // late to the news
	if get(t, s).Text != second.Text {
		t.Error("the wrong token was dropped")
	}
}

// A clock may be set wrong and right again: each time Google refuses once at most.
func TestAccessTokenWhileClockIsSet(t *testing.T) {
	sim, s, pass := testSource(t)
	for _, step := range []time.Duration{41 * time.Second, -41 * time.Second, 2 * time.Hour, -2 * time.Hour, -2 * time.Hour, 2 * time.Hour} {
		pass(step)
		if a, err := s.get(t.Context()); err != nil || a.Ends.Sub(s.now()) < 50*time.Minute || a.Ends.Sub(s.now()) > time.Hour {
			t.Errorf("after a step of %v the token ends %v: %v", step, a.Ends, err)
		}
	}
	// A refusal that the clock does not explain is not repeated.
	sim.BehaveOAuth(fcmsim.Behaviour{Status: 400, Code: "invalid_grant"}, fcmsim.Behaviour{})
	if _, err := s.get(t.Context()); err == nil {
		t.Error("asked again")
	}
}

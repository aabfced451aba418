package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"

	"github.com/sipwake/sipwake/push"
)

// clock is a signer's time.
type clock struct{ now time.Time }

func noSkew() *push.Skew { return push.NewSkew(slog.New(slog.DiscardHandler), "org.example.phone", "") }

func testSigner(t *testing.T, c *clock) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(key, "TEAM", "KEY", noSkew())
	s.now = func() time.Time { return c.now }
	return s
}

func bearer(t *testing.T, s *signer) (text string, issued time.Time) {
	t.Helper()
	signed, err := s.bearer()
	if err != nil {
		t.Fatal(err)
	}
	text = signed.text
	var claims jwt.RegisteredClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation())
	tok, err := parser.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return &s.key.PublicKey, nil })
	if err != nil || claims.Issuer != "TEAM" || tok.Header["kid"] != "KEY" {
		t.Fatalf("%v: %+v %+v", err, tok, claims)
	}
	return text, claims.IssuedAt.Time
}

// Every signer of a key presents the same token at the same time, it is never
// older than an hour, and it changes at most every 20 minutes.
func TestSignerOverADay(t *testing.T) {
	c := &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	a := testSigner(t, c)
	last, _ := bearer(t, a)
	var changed time.Time
	for end := c.now.Add(24 * time.Hour); c.now.Before(end); c.now = c.now.Add(time.Minute) {
		b := newSigner(a.key, a.team, a.keyID, noSkew()) // another instance, or this one after a restart
		b.now = a.now
		got, issued := bearer(t, a)
		if other, _ := bearer(t, b); other != got {
			t.Fatalf("at %v two signers differ", c.now)
		}
		if age := c.now.Sub(issued); age < 0 || age > 55*time.Minute {
			t.Fatalf("at %v the age is %v", c.now, age)
		}
		if got != last {
			if !changed.IsZero() && c.now.Sub(changed) < 20*time.Minute {
				t.Fatalf("changed at %v and %v", changed, c.now)
			}
			last, changed = got, c.now
		}
	}
	if changed.IsZero() {
		t.Error("never changed")
	}
}

func TestSignerResign(t *testing.T) {
	for minute := range 30 { // wherever in its slot a token is refused
		c := &clock{time.Date(2026, 1, 2, 3, minute, 5, 0, time.UTC)}
		s := testSigner(t, c)
		old, _ := bearer(t, s)
		if !s.resign(old) {
			t.Fatal("the first is refused")
		}
		next, _ := bearer(t, s)
		if next == old {
			t.Fatal("it is the same")
		}
		if !s.resign(old) { // late to the news
			t.Error("there is another one to try")
		}
		if s.resign(next) {
			t.Error("signed twice within 20 minutes")
		}
		changed := c.now
		for range 120 {
			c.now = c.now.Add(time.Minute)
			got, issued := bearer(t, s)
			if age := c.now.Sub(issued); age < 0 || age > 55*time.Minute {
				t.Fatalf("refused in minute %d: age %v", minute, age)
			}
			if got != next {
				if c.now.Sub(changed) < 20*time.Minute {
					t.Fatalf("refused in minute %d: changed after %v", minute, c.now.Sub(changed))
				}
				next, changed = got, c.now
			}
		}
	}
}

func TestSignerKeepsPrevious(t *testing.T) {
	c := &clock{time.Date(2026, 1, 2, 3, 20, 0, 0, time.UTC)}
	s := testSigner(t, c)
	old, issued := bearer(t, s)
	c.now = c.now.Add(15 * time.Minute)
	next, _ := bearer(t, s)
	if next == old {
		t.Fatal("no new token in the next half hour")
	}
	s.keepPrevious(old) // not the one in use: no effect
	s.keepPrevious(next)
	if got, _ := bearer(t, s); got != old {
		t.Fatal("the old one is not kept")
	}
	for c.now.Sub(issued) < 80*time.Minute {
		c.now = c.now.Add(time.Minute)
		if _, at := bearer(t, s); c.now.Sub(at) > 55*time.Minute {
			t.Fatalf("kept for too long: %v", c.now.Sub(at))
		}
	}
	if _, at := bearer(t, s); at.Equal(issued) {
		t.Error("never replaced")
	}
}

func TestSignerClockSetBack(t *testing.T) {
	c := &clock{time.Date(2026, 1, 2, 3, 20, 0, 0, time.UTC)}
	s := testSigner(t, c)
	bearer(t, s)
	c.now = c.now.Add(-5 * time.Hour)
	if _, issued := bearer(t, s); issued.After(c.now) {
		t.Errorf("issued in the future: %v", issued.Sub(c.now))
	}
}

// Whatever our clock says, the token is that of Apple's half hour, so that all instances
// present the same one; and again when our clock was set right.
func TestSignerCorrectsClock(t *testing.T) {
	apple := time.Date(2026, 1, 2, 3, 0, 5, 0, time.UTC)
	for _, ahead := range []time.Duration{-26 * time.Hour, -70 * time.Minute, -31 * time.Minute, 31 * time.Minute, 70 * time.Minute, 26 * time.Hour} {
		for minute := range 30 {
			right := &clock{apple.Add(time.Duration(minute) * time.Minute)}
			good := testSigner(t, right)
			want, _ := bearer(t, good)
			wrong := &clock{right.now.Add(ahead)}
			s := newSigner(good.key, good.team, good.keyID, noSkew())
			s.now = func() time.Time { return wrong.now }
			for _, c := range []*clock{wrong, right} {
				wrong.now = c.now
				old, _ := bearer(t, s)
				if c == right && old == want {
					continue // it is kept, for it is young enough
				}
				if old == want {
					t.Fatal("the clock makes no difference")
				}
				if s.correct(old, "") {
					t.Fatal("corrected without a Date")
				}
				date := right.now.Format(http.TimeFormat)
				for range 2 { // of two pushes with the old token the second is late to the news
					if !s.correct(old, date) {
						t.Fatal("no other token to try")
					}
				}
				if got, _ := bearer(t, s); got != want {
					t.Fatalf("ahead by %v: another token than with a right clock", ahead)
				}
				if s.correct(want, date) {
					t.Error("there is another one to try")
				}
			}
		}
	}
}

func TestSignerWithoutKey(t *testing.T) {
	s := newSigner(nil, "TEAM", "KEY", noSkew())
	if _, err := s.bearer(); err == nil {
		t.Error("no error")
	}
}

package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// Over three days, with the clock set back in between, every signature is for
// the origin, not about to end and not for more than 24 hours.
func TestAuthorizeOverDays(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v, err := newVAPID(key, "mailto:a@example.com")
	if err != nil {
		t.Fatal(err)
	}
	o := newOrigins(1, nil, slog.New(slog.DiscardHandler)).enter("https://push.example.com")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := map[string]bool{}
	for i := range 3 * 24 * 6 {
		now = now.Add(10 * time.Minute)
		if i == 200 {
			now = now.Add(-20 * time.Hour)
		}
		text, err := o.authorize(v, now)
		if err != nil {
			t.Fatal(err)
		}
		if !seen[text] && o.trusts(text) {
			t.Fatal("a new signature is trusted already")
		}
		seen[text] = true
		o.accepted(text)
		if !o.trusts(text) || o.trusts("another") {
			t.Fatal("trust is lost")
		}
		params, _ := strings.CutPrefix(text, "vapid t=")
		token, k, _ := strings.Cut(params, ", k=")
		claims := jwt.MapClaims{}
		parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation())
		if _, err := parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil }); err != nil {
			t.Fatal(err)
		}
		left := time.Unix(int64(claims["exp"].(float64)), 0).Sub(now)
		if claims["aud"] != "https://push.example.com" || claims["sub"] != "mailto:a@example.com" || k != v.public ||
			left < 6*time.Hour || left > 12*time.Hour {
			t.Fatalf("%v left, %v", left, claims)
		}
	}
	if len(seen) < 12 || len(seen) > 14 {
		t.Errorf("%d signatures in three days", len(seen))
	}
}

// The number of origins is bounded, and one with pushes under way is not forgotten.
func TestOriginsAreBounded(t *testing.T) {
	s := newOrigins(1, nil, slog.New(slog.DiscardHandler))
	name := func(i int) string { return "https://" + strings.Repeat("a", i+1) }
	for i := range 3 * maxOrigins {
		s.leave(s.enter(name(i)))
	}
	if len(s.byName) != maxOrigins || s.recent.Len() != maxOrigins {
		t.Fatalf("%d origins, %d in order", len(s.byName), s.recent.Len())
	}
	var busy []*origin
	for i := range maxOrigins {
		busy = append(busy, s.enter(name(i)))
	}
	if s.enter(name(maxOrigins)) != nil {
		t.Error("one too many")
	}
	s.leave(busy[7])
	if o := s.enter(name(maxOrigins)); o == nil {
		t.Error("no place is made")
	}
	if s.enter(name(0)) != busy[0] {
		t.Error("a busy one is forgotten")
	}
	s.close()
	if len(s.byName) != maxOrigins {
		t.Errorf("%d origins while pushes are under way", len(s.byName))
	}
}

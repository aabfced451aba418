package apns

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/h2"
)

// Apple refuses a provider token older than 60 minutes, and throttles a team whose
// token changes more often than every 20 minutes.
const (
	slotLength  = 30 * time.Minute
	minTokenAge = 20 * time.Minute
	maxTokenAge = 55 * time.Minute
	// clockMargin keeps the issue time in the past even if our clock is fast.
	clockMargin = time.Minute
)

// signer issues the provider tokens of one team and key. Issue times are multiples of
// half an hour and signatures are deterministic (RFC 6979). So every signer of the
// same key presents the same token, also in another process or after a reload, and
// Apple sees one change every 30 minutes regardless of the number of instances. Safe
// for concurrent use.
type signer struct {
	key         *ecdsa.PrivateKey
	team, keyID string
	now         func() time.Time
	skew        *push.Skew

	mu   sync.Mutex
	cur  providerToken
	prev providerToken
	hold time.Time // cur is kept until then
	last time.Time // when resign last signed, by our clock; all other times are by Apple's
}

type providerToken struct {
	text   string
	issued time.Time
	header *h2.Literal // the header field with it
}

func newSigner(key *ecdsa.PrivateKey, team, keyID string, skew *push.Skew) *signer {
	return &signer{key: key, team: team, keyID: keyID, now: time.Now, skew: skew}
}

// slot returns the issue time for the current half hour.
func slot(now time.Time) time.Time { return now.Add(-clockMargin).Truncate(slotLength) }

// bearer returns the token to use now.
func (s *signer) bearer() (providerToken, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.skew.At(s.now())
	fromFuture := s.cur.issued.After(now.Add(clockMargin))
	if s.cur.text != "" && now.Before(s.hold) && !fromFuture {
		return s.cur, nil
	}
	issued := slot(now)
	if s.cur.text != "" && issued.Sub(s.cur.issued) < minTokenAge && !fromFuture {
		return s.cur, nil
	}
	t, err := s.sign(issued)
	if err != nil {
		return providerToken{}, err
	}
	s.prev, s.cur = s.cur, t
	return t, nil
}

// correct takes Apple's time from the Date of an answer that refused the token old,
// and reports whether there is another token to try.
func (s *signer) correct(old, date string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur.text != old {
		return true
	}
	now := s.now()
	if !s.skew.Learn(date, now) {
		return false
	}
	t, err := s.sign(slot(s.skew.At(now)))
	if err != nil || t.text == old {
		return false
	}
	s.prev, s.cur, s.hold = providerToken{}, t, time.Time{}
	return true
}

// resign replaces a token that Apple called expired, and reports whether there is
// another one to try. Of several callers with the same old token one signs, and only
// if the last such signing was at least 20 minutes ago.
func (s *signer) resign(old string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cur.text != old {
		return true
	}
	now := s.now()
	if !s.last.IsZero() && now.Sub(s.last) < minTokenAge {
		return false
	}
	// Whole minutes: signers that do this at the same time still agree on the token.
	t, err := s.sign(s.skew.At(now).Truncate(time.Minute))
	if err != nil || t.text == old {
		return false
	}
	s.prev, s.cur, s.last, s.hold = providerToken{}, t, now, time.Time{}
	return true
}

// keepPrevious returns to the token before refused, which Apple found to be too early
// a change, as long as that token is young enough.
func (s *signer) keepPrevious(refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.skew.At(s.now())
	end := s.prev.issued.Add(maxTokenAge)
	if s.cur.text != refused || s.prev.text == "" || !now.Before(end) {
		return
	}
	s.cur, s.prev = s.prev, providerToken{}
	s.hold = now.Add(minTokenAge)
	if end.Before(s.hold) {
		s.hold = end
	}
}

// sign makes an ES256 JSON Web Token (RFC 7515, RFC 7518 section 3.4).
func (s *signer) sign(issued time.Time) (providerToken, error) {
	if s.key == nil {
		return providerToken{}, errors.New("cannot sign provider token: there is no key")
	}
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{"ES256", s.keyID})
	if err != nil {
		return providerToken{}, fmt.Errorf("cannot sign provider token: %w", err)
	}
	claims, err := json.Marshal(struct {
		Iss string `json:"iss"`
		Iat int64  `json:"iat"`
	}{s.team, issued.Unix()})
	if err != nil {
		return providerToken{}, fmt.Errorf("cannot sign provider token: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	digest := sha256.Sum256([]byte(text))
	// A nil source of randomness asks for the deterministic signature.
	der, err := s.key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return providerToken{}, fmt.Errorf("cannot sign provider token: %w", err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return providerToken{}, fmt.Errorf("cannot sign provider token: %w", err)
	}
	var raw [64]byte
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	text += "." + base64.RawURLEncoding.EncodeToString(raw[:])
	return providerToken{text, issued, h2.NewLiteral("authorization", "bearer "+text)}, nil
}

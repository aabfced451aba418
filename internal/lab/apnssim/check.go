package apnssim

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

const (
	maxTokenAge = time.Hour
	maxSkew     = 5 * time.Minute
)

// keyring holds the public keys that provider tokens may be signed with.
type keyring struct {
	keys     sync.Map // kid → key
	verified sync.Map // provider token → verified; checking a signature is the largest cost

	mu      sync.Mutex
	current map[string]change // by kid
}

type key struct {
	team   string
	public *ecdsa.PublicKey
	topics map[string]bool
	// foreign: the key is for the other environment.
	foreign bool
}

type verified struct {
	kid    string
	issued time.Time
	key    key
}

type change struct {
	token string
	at    time.Time
}

// AddKey registers a team's key. Without topics it is valid for all. Topics are given
// without ".voip".
func (s *Server) AddKey(team, keyID string, public *ecdsa.PublicKey, topics ...string) {
	k := key{team: team, public: public}
	if len(topics) > 0 {
		k.topics = make(map[string]bool)
		for _, t := range topics {
			k.topics[t] = true
		}
	}
	s.keys.keys.Store(keyID, k)
}

// AddForeignKey registers a team's key that is valid only for the other environment. This
// environment knows it, but refuses its signatures.
func (s *Server) AddForeignKey(team, keyID string, public *ecdsa.PublicKey) {
	s.keys.keys.Store(keyID, key{team: team, public: public, foreign: true})
}

func refusal(status int, reason string) Behaviour { return Behaviour{Status: status, Reason: reason} }

// check does Apple's checks of a request, before those of the device token.
func (s *Server) check(r *http.Request, p *Push, token string, size int) Behaviour {
	if b := s.authenticate(r, p); b.Status != 0 {
		return b
	}
	if b := checkHeaders(p); b.Status != 0 {
		return b
	}
	limit := 4096
	if p.PushType == "voip" {
		limit = 5120
	}
	switch {
	case size == 0:
		return refusal(http.StatusBadRequest, "PayloadEmpty")
	case size > limit:
		return refusal(http.StatusRequestEntityTooLarge, "PayloadTooLarge")
	case token == "":
		return refusal(http.StatusBadRequest, "MissingDeviceToken")
	case len(token) < 64 || len(token) > 200:
		return refusal(http.StatusBadRequest, "BadDeviceToken")
	}
	if _, err := hex.DecodeString(token); err != nil || s.Device(token) == nil {
		return refusal(http.StatusBadRequest, "BadDeviceToken")
	}
	return Behaviour{}
}

func checkHeaders(p *Push) Behaviour {
	voipTopic := strings.HasSuffix(p.Topic, ".voip")
	switch p.PushType {
	case "voip", "alert", "background":
	default:
		return refusal(http.StatusBadRequest, "InvalidPushType")
	}
	if voipTopic != (p.PushType == "voip") {
		return refusal(http.StatusBadRequest, "TopicDisallowed")
	}
	if p.Priority != "10" && p.Priority != "5" || p.PushType == "background" && p.Priority != "5" {
		return refusal(http.StatusBadRequest, "BadPriority")
	}
	if _, err := strconv.ParseUint(p.Expiration, 10, 62); err != nil {
		return refusal(http.StatusBadRequest, "BadExpirationDate")
	}
	if len(p.CollapseID) > 64 {
		return refusal(http.StatusBadRequest, "BadCollapseId")
	}
	return Behaviour{}
}

// authenticate checks the provider token or, without one, the certificate.
func (s *Server) authenticate(r *http.Request, p *Push) Behaviour {
	if p.Topic == "" {
		return refusal(http.StatusBadRequest, "MissingTopic")
	}
	bundle := strings.TrimSuffix(p.Topic, ".voip")
	scheme, text, _ := strings.Cut(r.Header.Get("authorization"), " ")
	if text == "" || !strings.EqualFold(scheme, "bearer") {
		if len(r.TLS.VerifiedChains) == 0 {
			return refusal(http.StatusForbidden, "MissingProviderToken")
		}
		if certificateTopic(r.TLS.PeerCertificates[0]) != bundle {
			return refusal(http.StatusBadRequest, "DeviceTokenNotForTopic")
		}
		return Behaviour{}
	}
	v, ok := s.keys.verify(text)
	if !ok {
		return refusal(http.StatusForbidden, "InvalidProviderToken")
	}
	p.Team = v.key.team
	if v.key.foreign {
		return refusal(http.StatusForbidden, "BadEnvironmentKeyInToken")
	}
	if age := s.options.Clock().Sub(v.issued); age > maxTokenAge || age < -maxSkew {
		return refusal(http.StatusForbidden, "ExpiredProviderToken")
	}
	if s.options.MinTokenAge > 0 && s.keys.tooSoon(v.kid, text, s.options.MinTokenAge) {
		return refusal(http.StatusTooManyRequests, "TooManyProviderTokenUpdates")
	}
	if v.key.topics != nil && !v.key.topics[bundle] {
		return refusal(http.StatusBadRequest, "TopicDisallowed")
	}
	return Behaviour{}
}

// certificateTopic returns the bundle ID that Apple writes into the subject as UID.
func certificateTopic(cert *x509.Certificate) string {
	for _, name := range cert.Subject.Names {
		if name.Type.Equal(uidOID) {
			uid, _ := name.Value.(string)
			return uid
		}
	}
	return ""
}

func (k *keyring) verify(text string) (verified, bool) {
	if v, ok := k.verified.Load(text); ok {
		return v.(verified), true
	}
	var v verified
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation())
	var claims jwt.RegisteredClaims
	_, err := parser.ParseWithClaims(text, &claims, func(t *jwt.Token) (any, error) {
		v.kid, _ = t.Header["kid"].(string)
		found, ok := k.keys.Load(v.kid)
		if !ok {
			return nil, errors.New("unknown key")
		}
		v.key = found.(key)
		return v.key.public, nil
	})
	if err != nil || claims.Issuer != v.key.team || claims.IssuedAt == nil {
		return verified{}, false
	}
	v.issued = claims.IssuedAt.Time
	k.verified.Store(text, v)
	return v, true
}

// tooSoon records which provider token a key uses, and reports whether it has changed too
// soon.
func (k *keyring) tooSoon(kid, text string, least time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	last, ok := k.current[kid]
	if ok && last.token != text && now.Sub(last.at) < least {
		return true
	}
	if last.token != text {
		if k.current == nil {
			k.current = make(map[string]change)
		}
		k.current[kid] = change{text, now}
	}
	return false
}

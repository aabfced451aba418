package webpushsim

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v4"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/sim"
)

// Subscription has the data of a browser's PushSubscription.
type Subscription struct {
	URL    string // the push URI
	P256dh string // base64url without padding
	Auth   string
}

// browser is the browser of a subscription.
type browser struct {
	url       string
	key       *ecdh.PrivateKey
	auth      []byte
	vapid     string // the only key that may push; empty for any
	onDeliver atomic.Pointer[func(*Message)]
	script    sim.Script[Behaviour]
}

// Message is a push as the browser gets it.
type Message struct {
	Payload []byte // decrypted; nil for a push without one
	TTL     int    // seconds
	Urgency string
	Topic   string
	Subject string // of the VAPID token: who is responsible
	Expires time.Time
}

// MakeSubscription subscribes a browser. A vapid key, in base64url, restricts the
// subscription to that key (RFC 8292 section 4); empty allows any key.
func (s *Server) MakeSubscription(vapid string) (Subscription, error) {
	return s.MakeSubscriptionAt(s.Host(), vapid)
}

// MakeSubscriptionAt is like MakeSubscription, but with another name, and port, for the
// server in the URL.
func (s *Server) MakeSubscriptionAt(host, vapid string) (Subscription, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Subscription{}, fmt.Errorf("cannot make key of subscription: %w", err)
	}
	path := "/wpush/v2/" + random(48)
	b := &browser{url: "https://" + host + path, key: key, auth: make([]byte, 16), vapid: vapid}
	_, _ = rand.Read(b.auth) // never fails
	s.browsers.Store(path, b)
	sub := Subscription{
		URL:    b.url,
		P256dh: base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
		Auth:   base64.RawURLEncoding.EncodeToString(b.auth),
	}
	leak.Secret(sub.URL, sub.P256dh, sub.Auth)
	return sub, nil
}

// find returns the browser with the push URI, nil if there is none.
func (s *Server) find(uri string) *browser {
	u, err := url.Parse(uri)
	if err != nil {
		panic("BUG: not the URL of a subscription")
	}
	v, ok := s.browsers.Load(u.Path)
	if !ok {
		panic("BUG: not the URL of a subscription")
	}
	return v.(*browser)
}

// receive checks a push and decrypts it. A Behaviour with a Status refuses it.
func (b *browser) receive(r *http.Request, body []byte, origin string, now time.Time) (*Message, Behaviour) {
	bad := func(status int, reason string) (*Message, Behaviour) {
		return nil, Behaviour{Status: status, Reason: reason}
	}
	if r.Method != http.MethodPost {
		return bad(http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
	claims, problem := b.authorize(r.Header.Get("Authorization"), origin, now)
	if problem.Status != 0 {
		return nil, problem
	}
	m := &Message{Urgency: r.Header.Get("Urgency"), Topic: r.Header.Get("Topic"), Subject: claims.Subject, Expires: claims.ExpiresAt.Time}
	var err error
	if m.TTL, err = strconv.Atoi(r.Header.Get("TTL")); err != nil || m.TTL < 0 {
		return bad(http.StatusBadRequest, "BadTtl")
	}
	switch m.Urgency {
	case "", "very-low", "low", "normal", "high":
	default:
		return bad(http.StatusBadRequest, "BadUrgency")
	}
	const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(m.Topic) > 32 || strings.Trim(m.Topic, base64url) != "" {
		return bad(http.StatusBadRequest, "BadWebPushTopic")
	}
	switch {
	case len(body) == 0:
		return m, Behaviour{}
	case len(body) > 4096:
		return bad(http.StatusRequestEntityTooLarge, "PayloadTooLarge")
	case r.Header.Get("Content-Encoding") != "aes128gcm":
		return bad(http.StatusBadRequest, "BadEncoding")
	}
	if m.Payload, err = open(body, b.key, b.auth); err != nil {
		// A real service could not notice this.
		return bad(http.StatusBadRequest, "CannotDecrypt")
	}
	return m, Behaviour{}
}

// authorize verifies the VAPID token (RFC 8292): 401 without a signature, 403 with a
// wrong one.
func (b *browser) authorize(header, origin string, now time.Time) (*jwt.RegisteredClaims, Behaviour) {
	params, ok := strings.CutPrefix(header, "vapid ")
	if !ok {
		return nil, Behaviour{Status: http.StatusUnauthorized, Reason: "MissingProviderToken"}
	}
	var token, key string
	for param := range strings.SplitSeq(params, ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(param), "="); name {
		case "t":
			token = value
		case "k":
			key = value
		}
	}
	leak.Tokens(token)
	bad := func(reason string) (*jwt.RegisteredClaims, Behaviour) {
		return nil, Behaviour{Status: http.StatusForbidden, Reason: reason}
	}
	if b.vapid != "" && key != b.vapid {
		return bad("") // RFC 8292 section 4.2
	}
	var c jwt.RegisteredClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) {
		point, err := base64.RawURLEncoding.DecodeString(key)
		if err != nil {
			return nil, err
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	})
	switch {
	case err != nil, len(c.Audience) != 1 || c.Audience[0] != origin,
		!c.VerifyExpiresAt(now, true) || c.ExpiresAt.Sub(now) > 24*time.Hour,
		!strings.HasPrefix(c.Subject, "mailto:") && !strings.HasPrefix(c.Subject, "https:"):
		return bad("BadJwtToken")
	}
	return &c, Behaviour{}
}

// open decrypts a body of one record, RFC 8188 and RFC 8291, as a browser does.
func open(body []byte, key *ecdh.PrivateKey, auth []byte) ([]byte, error) {
	const fixed = 16 + 4 + 1
	if len(body) < fixed || len(body) < fixed+int(body[fixed-1]) {
		return nil, errors.New("the header is cut off")
	}
	salt, recordSize := body[:16], binary.BigEndian.Uint32(body[16:])
	sender, record := body[fixed:fixed+int(body[fixed-1])], body[fixed+int(body[fixed-1]):]
	public, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, fmt.Errorf("bad key of the sender: %w", err)
	}
	if uint64(len(record)) > uint64(recordSize) {
		return nil, errors.New("there are several records")
	}
	shared, err := key.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("no shared secret: %w", err)
	}
	derive := func(secret, salt []byte, n int, info ...string) []byte {
		out, err := hkdf.Key(sha256.New, secret, salt, strings.Join(info, "\x00"), n)
		if err != nil {
			panic("BUG: HKDF: " + err.Error())
		}
		return out
	}
	ikm := derive(shared, auth, 32, "WebPush: info", string(key.PublicKey().Bytes())+string(sender))
	block, err := aes.NewCipher(derive(ikm, salt, 16, "Content-Encoding: aes128gcm", ""))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, derive(ikm, salt, 12, "Content-Encoding: nonce", ""), record, nil)
	if err != nil {
		return nil, err
	}
	text := strings.TrimRight(string(plain), "\x00") // padding
	text, ok := strings.CutSuffix(text, "\x02")
	if !ok {
		return nil, errors.New("the record is not the last one")
	}
	return []byte(text), nil
}

// random returns n random bytes in base64url.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// RFC 8292 section 2 allows an expiry of at most 24 hours from now. The margins on
// both sides allow for wrong clocks.
const (
	signedFor  = 12 * time.Hour
	signedHold = 6 * time.Hour // until the next one
)

// vapid identifies this application server to push services (RFC 8292). It is
// immutable.
type vapid struct {
	key     *ecdsa.PrivateKey
	public  string // base64url, as clients use it
	subject string
}

func newVAPID(key *ecdsa.PrivateKey, subject string) (*vapid, error) {
	public, err := publicKey(key)
	if err != nil {
		return nil, err
	}
	return &vapid{key, public, subject}, nil
}

// publicKey returns the applicationServerKey of the Push API: the uncompressed point.
func publicKey(key *ecdsa.PrivateKey) (string, error) {
	b, err := key.PublicKey.Bytes()
	if err != nil {
		return "", fmt.Errorf("cannot encode VAPID key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// authorization is an Authorization header value for one origin.
type authorization struct {
	text    string
	renewAt time.Time
	// accepted means that the push service accepted a push with it, so our key and
	// our clock are fine.
	accepted bool
}

// sign makes the header for an origin.
func (v *vapid) sign(origin string, now time.Time) (authorization, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": origin, "exp": now.Add(signedFor).Unix(), "sub": v.subject,
	})
	text, err := t.SignedString(v.key)
	if err != nil {
		return authorization{}, fmt.Errorf("cannot sign VAPID token: %w", err)
	}
	return authorization{text: "vapid t=" + text + ", k=" + v.public, renewAt: now.Add(signedHold)}, nil
}

// parseKey parses a private key as written by openssl, in PKCS#8 or SEC 1. Its errors
// do not quote the file.
func parseKey(rest []byte) (*ecdsa.PrivateKey, error) {
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, errors.New("is not a P-256 private key (it has no PEM block of one)")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default: // openssl puts EC PARAMETERS first
			continue
		}
		if err != nil {
			return nil, errors.New("is not a P-256 private key (the PEM block is damaged)")
		}
		ec, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("is not a P-256 private key (it holds %T)", key)
		}
		if ec.Curve != elliptic.P256() {
			return nil, fmt.Errorf("is not a P-256 private key (its curve is %s)", ec.Curve.Params().Name)
		}
		return ec, nil
	}
}

// NewKey creates a key for an app, in PEM.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

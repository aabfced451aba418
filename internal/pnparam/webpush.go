package pnparam

import (
	"crypto/ecdh"
	"encoding/base64"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// ParseWebPushKeys reads the keys of a subscription; nil if one of them is none.
func ParseWebPushKeys(p256dh, auth string) *WebPushKeys { return readWebPushKeys(p256dh + "|" + auth) }

// readWebPushKeys reads P256DH|AUTH, each in either alphabet of base64 and with
// or without padding, for browsers and the libraries on top of them differ. It
// returns nil if one is not a key.
func readWebPushKeys(s string) *WebPushKeys {
	p256dh, auth, ok := cut(s, '|')
	if !ok {
		return nil
	}
	p256dh, point := decodeKey(p256dh)
	auth, random := decodeKey(auth)
	if len(random) != 16 {
		return nil
	}
	// A point off the curve would only be noticed at the first push.
	if _, err := ecdh.P256().NewPublicKey(point); err != nil {
		return nil
	}
	return &WebPushKeys{P256dh: secret.NewToken(p256dh), Auth: secret.NewToken(auth)}
}

// decodeKey decodes the key, and returns it in base64url without padding too.
func decodeKey(s string) (text string, key []byte) {
	const maxKey = 88 // 65 bytes with padding
	if len(s) > maxKey || !printable(s) {
		return "", nil
	}
	text = strings.TrimRight(s, "=")
	if strings.ContainsAny(text, "+/") {
		text = strings.NewReplacer("+", "-", "/", "_").Replace(text)
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", nil
	}
	return text, key
}

package pnparam

import (
	"crypto/ecdh"
	"encoding/base64"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// ParseWebPushKeys parses the keys of a subscription. It returns nil if one of them is
// invalid.
func ParseWebPushKeys(p256dh, auth string) *WebPushKeys { return readWebPushKeys(p256dh + "|" + auth) }

// readWebPushKeys parses P256DH|AUTH, each in either alphabet of base64, with or without
// padding, because browsers and their libraries differ. It returns nil if one is
// invalid.
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
	// Without this check, only the first push would notice a point that is off the curve.
	if _, err := ecdh.P256().NewPublicKey(point); err != nil {
		return nil
	}
	return &WebPushKeys{P256dh: secret.NewToken(p256dh), Auth: secret.NewToken(auth)}
}

// decodeKey decodes the key. text is the key in base64url without padding.
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

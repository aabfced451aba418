package webpush

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

func webPushKeys(p256dh, auth string) *pnparam.WebPushKeys {
	return &pnparam.WebPushKeys{P256dh: secret.NewToken(p256dh), Auth: secret.NewToken(auth)}
}

// The subscription of RFC 8291 appendix A.
const (
	vectorKey  = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	vectorAuth = "BTBZMqHH6r4Tts7J_aSIgg"
)

func TestSealVector(t *testing.T) {
	decode := func(s string) []byte {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ephemeral, err := ecdh.P256().NewPrivateKey(decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := seal([]byte("When I grow up, I want to be a watermelon"), webPushKeys(vectorKey, vectorAuth),
		ephemeral, [saltSize]byte(decode("DGv6ra1nlYgDCS1FRnbzlw")))
	const want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz" +
		"AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if got := base64.RawURLEncoding.EncodeToString(body); err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

func TestEncrypt(t *testing.T) {
	f := func(size int, p256dh, auth string, want error) {
		t.Helper()
		payload := make([]byte, size, size+1)
		body, err := encrypt(payload, webPushKeys(p256dh, auth))
		if !errors.Is(err, want) || err == nil && (len(body) > 4096 || bytes.ContainsAny(payload[:cap(payload)], "\x02")) {
			t.Errorf("%d bytes for %s %s: %d bytes, %v; want %v", size, p256dh, auth, len(body), err, want)
		}
	}
	f(1, vectorKey, vectorAuth, nil)
	f(MaxPayload, vectorKey, vectorAuth, nil)
	f(MaxPayload+1, vectorKey, vectorAuth, errTooLong)
	f(1, "", vectorAuth, errKeys)
	f(1, vectorKey, "", errKeys)
	f(1, vectorKey, vectorAuth+"AA", errKeys)
	f(1, vectorKey[1:], vectorAuth, errKeys)
	f(1, strings.Replace(vectorKey, "x", "y", 1), vectorAuth, errKeys) // not on the curve
	f(1, "A"+vectorKey[1:], vectorAuth, errKeys)
	f(1, "!", vectorAuth, errKeys)
	f(1, vectorKey, "!", errKeys)
	a, _ := encrypt([]byte("x"), webPushKeys(vectorKey, vectorAuth))
	b, _ := encrypt([]byte("x"), webPushKeys(vectorKey, vectorAuth))
	if bytes.Equal(a, b) {
		t.Error("two bodies are the same: key or salt is not random")
	}
}

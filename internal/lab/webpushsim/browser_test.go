package webpushsim

import (
	"crypto/ecdh"
	"encoding/base64"
	"testing"
)

// RFC 8291 appendix A.
func TestOpenVector(t *testing.T) {
	decode := func(s string) []byte {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, err := ecdh.P256().NewPrivateKey(decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	if err != nil {
		t.Fatal(err)
	}
	auth := decode("BTBZMqHH6r4Tts7J_aSIgg")
	body := decode("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz" +
		"AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	got, err := open(body, key, auth)
	if err != nil || string(got) != "When I grow up, I want to be a watermelon" {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range body { // no byte may be changed, none may be missing
		if i >= 16 && i < 20 {
			continue // the record size; a larger one is the same for one record
		}
		broken := append([]byte(nil), body...)
		broken[i] ^= 1
		if _, err := open(broken, key, auth); err == nil {
			t.Errorf("byte %d can be changed", i)
		}
		if _, err := open(body[:i], key, auth); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
}

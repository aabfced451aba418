package webpush

import (
	"crypto/elliptic"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

func FuzzVAPIDKey(f *testing.F) {
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, contents []byte) {
		key, err := parseKey(contents)
		if err != nil {
			for line := range strings.Lines(string(contents)) {
				if line = strings.TrimSpace(line); len(line) >= 16 && !strings.Contains(line, "-----") && strings.Contains(err.Error(), line) {
					t.Fatalf("%v quotes the file", err)
				}
			}
			return
		}
		v, err := newVAPID(key, "mailto:ops@example.com")
		if err != nil || key.Curve != elliptic.P256() {
			t.Fatalf("%v, %v", key.Curve, err)
		}
		if _, err := v.sign("https://push.example.com", time.Now()); err != nil {
			t.Fatal(err)
		}
	})
}

// A subscription is what a stranger sends: an address and two keys. It is refused,
// or its payload fits what push services take.
func FuzzSubscription(f *testing.F) {
	f.Add("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", "BTBZMqHH6r4Tts7J_aSIgg", "payload")
	f.Add("", "", "")
	f.Add("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw5", "BTBZMqHH6r4Tts7J_aSIgg", strings.Repeat("x", 4000))
	f.Fuzz(func(t *testing.T, p256dh, auth, payload string) {
		body, err := encrypt([]byte(payload), &pnparam.WebPushKeys{P256dh: secret.NewToken(p256dh), Auth: secret.NewToken(auth)})
		switch {
		case err != nil && (len(p256dh) >= 16 && strings.Contains(err.Error(), p256dh) || len(auth) >= 16 && strings.Contains(err.Error(), auth)):
			t.Fatalf("%v quotes a key", err)
		case err == nil && (len(body) != headerSize+len(payload)+1+tagSize || len(body) > 4096):
			t.Fatalf("%d bytes for a payload of %d", len(body), len(payload))
		}
	})
}

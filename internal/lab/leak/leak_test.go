package leak

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const token = "d7Kp/x+9:APA91bH-secret_of%a&phone\"2f6c"

func say(t *testing.T, text string) {
	t.Helper()
	w := Record("test")
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// Each form of a secret is found, on its line, and the finding does not repeat it.
func TestFindsLeaks(t *testing.T) {
	quoted, _ := json.Marshal(token)
	for name, text := range map[string]string{
		"as it is":        token,
		"its beginning":   token[:12] + "…",
		"its end":         "…" + token[len(token)-12:],
		"capitals":        strings.ToUpper(token),
		"query":           "u=" + url.QueryEscape(token),
		"path":            "/" + url.PathEscape(token),
		"JSON":            string(quoted),
		"percent":         percent(token, "%%%02x"),
		"hexadecimal":     hex.EncodeToString([]byte(token)),
		"base64":          base64.StdEncoding.EncodeToString([]byte(token)),
		"base64url":       base64.RawURLEncoding.EncodeToString([]byte(token)),
		"Basic":           base64.StdEncoding.EncodeToString([]byte("user:" + token)),
		"Basic, shifted":  base64.StdEncoding.EncodeToString([]byte("me:" + token + ":x")),
		"Basic, shifted2": base64.StdEncoding.EncodeToString([]byte("a:" + token + ":xy")),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv(Dir, dir)
			Secret("another-one", token)
			say(t, "one line\n")
			say(t, "harmless\nline two says "+text+" and goes on\nthree\n")
			r, err := Check(dir)
			if err != nil || len(r.Found) != 1 || r.Found[0].Line != 2 || r.Secrets != 2 || r.Files != 2 {
				t.Fatalf("%+v, %v", r, err)
			}
			if s := r.Found[0].String(); strings.Contains(s, token[:8]) || !strings.HasPrefix(s, "test-") {
				t.Error(s)
			}
		})
	}
}

func TestPrivateKeys(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Dir, dir)
	body := strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn", 3)
	Secret("-----BEGIN CERTIFICATE-----\n" + strings.Repeat("MIIB", 16) + "\n-----END CERTIFICATE-----\n" +
		"-----BEGIN PRIVATE KEY-----\n" + body[:64] + "\n" + body[64:128] + "\n-----END PRIVATE KEY-----\n")
	say(t, "a certificate is no secret: "+strings.Repeat("MIIB", 16)+"\n")
	if r, err := Check(dir); err != nil || len(r.Found) != 0 || r.Secrets != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	say(t, `{"private_key":"-----BEGIN PRIVATE KEY-----\n`+body[:64]+`\n"}`)
	if r, err := Check(dir); err != nil || len(r.Found) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestURLs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Dir, dir)
	Secret("https://push.example.com/wpush/v2/gAAAAABsecret-path-of-a-browser")
	say(t, "push.example.com did not answer\n")
	if r, err := Check(dir); err != nil || len(r.Found) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	say(t, "https://push.example.com/wpush/v2/gAAAAABsecret-path-of-a-browser did not answer\n")
	if r, err := Check(dir); err != nil || len(r.Found) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A run that noted or said nothing proves nothing; a secret that is too short
// cannot be looked for.
func TestProvesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Dir, dir)
	f := func(want string) {
		t.Helper()
		if _, err := Check(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f("proves nothing")
	Secret(token)
	f("proves nothing")
	say(t, "x")
	if _, err := Check(dir); err != nil {
		t.Error(err)
	}
	Secret("short")
	f("a secret of 5 bytes is too short")
}

// The tokens of a request, in whatever dialect.
func TestBody(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Dir, dir)
	for _, body := range []string{
		`{"contact":"<sip:b@h;pn-provider=apns;pn-prid=aaaa1111bbbb:remote&cccc2222dddd:voip>;q=1"}`,
		`{"contact":"<sip:b@h;pn-prid=https%3A%2F%2Fpush.example.com%2Fx%2Feeee3333ffff;pn-provider=webpush>"}`,
		`{"headers":{"X-MPUSH":"s:a:org.example.phone:gggg4444hhhh"}}`,
		`{"headers":{"X-Push":"device-os=ios;device-uid=\"iiii6666jjjj\";app-id=x"}}`,
		`{"token":"kkkk7777llll","auth":"mmmm8888nnnn"}`,
		`{"contact":"<sip:b@h;pn-prid=short;pn-tok=` + strings.Repeat("x", 5000) + `>"}`,
	} {
		Body(body)
	}
	got, err := readLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"aaaa1111bbbb", "cccc2222dddd", "eeee3333ffff", "gggg4444hhhh", "iiii6666jjjj", "kkkk7777llll", "mmmm8888nnnn"}
	if secrets := slices.Sorted(maps.Keys(got)); !slices.Equal(secrets, want) {
		t.Errorf("got %q, want %q", secrets, want)
	}
}

func TestCopy(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Dir, dir)
	Secret(token)
	log := filepath.Join(t.TempDir(), "x.log")
	Copy("x", log) // there is none
	if err := os.WriteFile(log, []byte("line\n"+token), 0o600); err != nil {
		t.Fatal(err)
	}
	Copy("x", log)
	if r, err := Check(dir); err != nil || r.Files != 1 || len(r.Found) != 1 || r.Found[0].Line != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func BenchmarkCheck(b *testing.B) {
	dir := b.TempDir()
	b.Setenv(Dir, dir)
	for i := range 5000 {
		Secret(fmt.Sprintf("token-%x-%d-%x", i*7919, i, i*104729))
	}
	w := Record("big")
	line := []byte(`{"time":"2026-11-22T01:34:35Z","level":"DEBUG","msg":"node signalled","aor":"bob@example.com","call_id":"19e9257c"}` + "\n")
	for range (32 << 20) / len(line) {
		_, _ = w.Write(line)
	}
	_ = w.Close()
	b.SetBytes(32 << 20)
	for b.Loop() {
		if r, err := Check(dir); err != nil || len(r.Found) != 0 {
			b.Fatal(r.Found, err)
		}
	}
}

package webpushsim_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/webpushsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) (*webpushsim.Server, *http.Client) {
	t.Helper()
	sim, err := webpushsim.Start(webpushsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CA())
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	t.Cleanup(hc.CloseIdleConnections)
	return sim, hc
}

func newKey(t *testing.T) (key *ecdsa.PrivateKey, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return key, base64.RawURLEncoding.EncodeToString(point)
}

func sign(t *testing.T, key *ecdsa.PrivateKey, public string, claims jwt.MapClaims) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return "vapid t=" + text + ", k=" + public
}

func TestChecks(t *testing.T) {
	sim, hc := start(t)
	key, public := newKey(t)
	other, otherPublic := newKey(t)
	sub, err := sim.MakeSubscription(public)
	if err != nil {
		t.Fatal(err)
	}
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"aud": "https://" + sim.Host(), "exp": time.Now().Add(time.Hour).Unix(), "sub": "mailto:a@example.com"}
		change(c)
		return c
	}
	good := sign(t, key, public, claims(func(jwt.MapClaims) {}))
	f := func(authorization, body string, status int, want string, header ...string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, sub.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		req.Header.Set("TTL", "0")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || !strings.Contains(string(got), want) {
			t.Errorf("%d %s, %v; want %d %s", resp.StatusCode, got, err, status, want)
		}
	}
	f(good, "", 201, "")
	f(good, "", 201, "", "Urgency", "very-low", "Topic", "a-Z_0")
	f("", "", 401, "MissingProviderToken")
	f("WebPush x", "", 401, "MissingProviderToken")
	f(sign(t, other, public, claims(func(jwt.MapClaims) {})), "", 403, "BadJwtToken")
	f(sign(t, other, otherPublic, claims(func(jwt.MapClaims) {})), "", 403, "")
	f("vapid t=x, k="+public, "", 403, "BadJwtToken")
	for _, change := range []func(jwt.MapClaims){
		func(c jwt.MapClaims) { c["aud"] = sub.URL },
		func(c jwt.MapClaims) { delete(c, "aud") },
		func(c jwt.MapClaims) { c["exp"] = time.Now().Add(25 * time.Hour).Unix() },
		func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() },
		func(c jwt.MapClaims) { delete(c, "exp") },
		func(c jwt.MapClaims) { c["sub"] = "me" },
	} {
		f(sign(t, key, public, claims(change)), "", 403, "BadJwtToken")
	}
	f(good, "", 400, "BadTtl", "TTL", "")
	f(good, "", 400, "BadTtl", "TTL", "-1")
	f(good, "", 400, "BadUrgency", "Urgency", "now")
	f(good, "", 400, "BadWebPushTopic", "Topic", "a b")
	f(good, "", 400, "BadWebPushTopic", "Topic", strings.Repeat("a", 33))
	f(good, "plain", 400, "BadEncoding")
	f(good, strings.Repeat("x", 4096), 400, "CannotDecrypt", "Content-Encoding", "aes128gcm")
	f(good, strings.Repeat("x", 4097), 413, "PayloadTooLarge", "Content-Encoding", "aes128gcm")
	sub.URL += "x"
	f(good, "", 404, "")
}

func TestOnDeliver(t *testing.T) {
	sim, hc := start(t)
	key, public := newKey(t)
	sub, err := sim.MakeSubscription("")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *webpushsim.Message, 1)
	sim.OnDeliver(sub.URL, func(m *webpushsim.Message) { got <- m })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, sub.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("TTL", "7")
	req.Header.Set("Authorization", sign(t, key, public, jwt.MapClaims{
		"aud": "https://" + sim.Host(), "exp": time.Now().Add(time.Hour).Unix(), "sub": "mailto:a@example.com",
	}))
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if m := <-got; m.TTL != 7 || m.Payload != nil || m.Subject != "mailto:a@example.com" {
		t.Errorf("%+v", m)
	}
	if accepted, refused := sim.Counts(); accepted != 1 || refused != 0 || len(sim.Pushes()) != 1 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
}

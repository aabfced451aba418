package apnssim_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestChecks sends what a careless client would, one fault each.
func TestChecks(t *testing.T) {
	sim, err := apnssim.Start(apnssim.Options{KnownTokens: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sim.AddKey("TEAM", "KEY", &key.PublicKey, "org.example")
	known := strings.Repeat("ab", 32)
	sim.AddToken(known)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CA())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()

	bearer := func(k *ecdsa.PrivateKey, kid, team string, issued time.Time) string {
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": team, "iat": issued.Unix()})
		tok.Header["kid"] = kid
		text, err := tok.SignedString(k)
		if err != nil {
			t.Fatal(err)
		}
		return "bearer " + text
	}
	good := bearer(key, "KEY", "TEAM", time.Now())
	f := func(status int, reason string, change func(*http.Request)) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, sim.URL()+"/3/device/"+known, strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"authorization": good, "apns-topic": "org.example", "apns-push-type": "alert",
			"apns-priority": "10", "apns-expiration": "0",
		} {
			req.Header.Set(name, value)
		}
		change(req)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body struct{ Reason string }
		_ = json.NewDecoder(resp.Body).Decode(&body)
		if resp.StatusCode != status || body.Reason != reason || resp.ProtoMajor != 2 {
			t.Errorf("got %d %s by %s, want %d %s", resp.StatusCode, body.Reason, resp.Proto, status, reason)
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del(name)
			if value != "" {
				r.Header.Set(name, value)
			}
		}
	}
	body := func(n int) func(*http.Request) {
		return func(r *http.Request) {
			b := bytes.Repeat([]byte("x"), n)
			r.Body, r.ContentLength = http.NoBody, 0
			if n > 0 {
				clone, _ := http.NewRequestWithContext(r.Context(), http.MethodPost, r.URL.String(), bytes.NewReader(b))
				r.Body, r.ContentLength = clone.Body, int64(n)
			}
		}
	}
	path := func(p string) func(*http.Request) { return func(r *http.Request) { r.URL.Path = p } }
	delivered := make(chan string, 1)
	sim.OnDeliver(known, func(payload []byte, h http.Header) { delivered <- string(payload) + h.Get("apns-topic") })
	f(200, "", func(*http.Request) {})
	if got := <-delivered; got != "{}org.example" {
		t.Errorf("delivered %s", got)
	}
	// One that is away gets the last push of each topic, if it may be stored.
	sim.SetAway(known, true)
	f(200, "", header("apns-expiration", strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10)))
	f(200, "", header("apns-expiration", "0"))
	f(200, "", header("apns-expiration", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)))
	sim.SetAway(known, false)
	if got := <-delivered; got != "{}org.example" || len(delivered) != 0 {
		t.Errorf("delivered %s and %d more", got, len(delivered))
	}
	sim.OnDeliver(known, nil)
	f(200, "", func(r *http.Request) {
		header("apns-topic", "org.example.voip")(r)
		header("apns-push-type", "voip")(r)
		body(5120)(r)
	})
	f(403, "MissingProviderToken", header("authorization", ""))
	f(403, "InvalidProviderToken", header("authorization", "bearer x"))
	f(403, "InvalidProviderToken", header("authorization", bearer(other, "KEY", "TEAM", time.Now())))
	f(403, "InvalidProviderToken", header("authorization", bearer(key, "OTHER", "TEAM", time.Now())))
	f(403, "InvalidProviderToken", header("authorization", bearer(key, "KEY", "OTHER", time.Now())))
	f(403, "ExpiredProviderToken", header("authorization", bearer(key, "KEY", "TEAM", time.Now().Add(-61*time.Minute))))
	f(403, "ExpiredProviderToken", header("authorization", bearer(key, "KEY", "TEAM", time.Now().Add(time.Hour))))
	f(400, "MissingTopic", header("apns-topic", ""))
	f(400, "TopicDisallowed", header("apns-topic", "org.other"))
	f(400, "TopicDisallowed", header("apns-topic", "org.example.voip"))
	f(400, "TopicDisallowed", header("apns-push-type", "voip"))
	f(400, "InvalidPushType", header("apns-push-type", ""))
	f(400, "BadPriority", header("apns-push-type", "background"))
	f(400, "BadPriority", header("apns-priority", "7"))
	f(400, "BadExpirationDate", header("apns-expiration", ""))
	f(400, "BadExpirationDate", header("apns-expiration", "soon"))
	f(400, "BadCollapseId", header("apns-collapse-id", strings.Repeat("x", 65)))
	f(400, "PayloadEmpty", body(0))
	f(413, "PayloadTooLarge", body(4097))
	f(400, "MissingDeviceToken", path("/3/device/"))
	f(400, "BadDeviceToken", path("/3/device/abcd"))
	f(400, "BadDeviceToken", path("/3/device/"+strings.Repeat("xy", 32)))
	f(400, "BadDeviceToken", path("/3/device/"+strings.Repeat("cd", 32)))
	f(404, "BadPath", path("/3/devices/"+known))
	f(405, "MethodNotAllowed", func(r *http.Request) { r.Method = http.MethodPut })
}

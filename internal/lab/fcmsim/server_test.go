package fcmsim_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/jwt"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	project = "example"
	scope   = "https://www.googleapis.com/auth/firebase.messaging"
	token   = "abcdefghijklmnopqrstuv:APA91bHPRgkF3JUikC4ENAHEeMrd41Zxv3hVZjC9KtT8"
)

func start(t *testing.T) (*fcmsim.Server, *http.Client, *jwt.Config) {
	t.Helper()
	sim, err := fcmsim.Start(fcmsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	file, err := sim.MakeAccount(t.TempDir(), project)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, err := google.JWTConfigFromJSON(contents, scope)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(sim.CA())
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	t.Cleanup(hc.CloseIdleConnections)
	return sim, hc, config
}

func access(hc *http.Client, config *jwt.Config) (string, error) {
	tok, err := config.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, hc)).Token()
	if err != nil {
		return "", err
	}
	return tok.AccessToken, nil
}

func TestTokenEndpoint(t *testing.T) {
	_, hc, good := start(t)
	f := func(change func(*jwt.Config), ok bool) {
		t.Helper()
		config := *good
		change(&config)
		text, err := access(hc, &config)
		if (err == nil && text != "") != ok {
			t.Errorf("error %v", err)
		}
	}
	f(func(*jwt.Config) {}, true)
	f(func(c *jwt.Config) { c.Scopes = []string{"https://www.googleapis.com/auth/cloud-platform"} }, true)
	f(func(c *jwt.Config) { c.Scopes = []string{"https://www.googleapis.com/auth/drive"} }, false)
	f(func(c *jwt.Config) { c.Email = "other@example.com" }, false)
	f(func(c *jwt.Config) { c.Audience = "https://elsewhere.example.com/token" }, false)
	f(func(c *jwt.Config) { c.Expires = 10 * time.Hour }, false)
	_, _, other := start(t)
	f(func(c *jwt.Config) { c.PrivateKey = other.PrivateKey }, false)

	resp, err := hc.PostForm(good.TokenURL, url.Values{"grant_type": {"password"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("another grant type: %d", resp.StatusCode)
	}
}

func TestChecks(t *testing.T) {
	sim, hc, config := start(t)
	bearer, err := access(hc, config)
	if err != nil {
		t.Fatal(err)
	}
	f := func(project, bearer, body string, status int, want string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			sim.URL()+"/v1/projects/"+project+"/messages:send", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+bearer)
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || !json.Valid(got) {
			t.Fatalf("%v: %s", err, got)
		}
		if resp.StatusCode != status || !strings.Contains(string(got), want) {
			t.Errorf("%s: %d %s", body, resp.StatusCode, got)
		}
	}
	message := func(rest string) string { return `{"message":{"token":"` + token + `"` + rest + `}}` }
	f(project, bearer, message(""), 200, "projects/example/messages/")
	f(project, bearer, message(`,"data":{"a":"b"},"android":{"priority":"HIGH","ttl":"3.5s","direct_boot_ok":true}`), 200, "name")
	f(project, "x", message(""), 401, "UNAUTHENTICATED")
	f("other", bearer, message(""), 403, "PERMISSION_DENIED")
	f(project, bearer, `{}`, 400, "message")
	f(project, bearer, `{"message":{}}`, 400, "message.token")
	f(project, bearer, `{"message":{"token":"short"}}`, 400, "registration token")
	f(project, bearer, message(`,"topic":"x"`), 400, "message.token")
	f(project, bearer, message(`,"unknown":1`), 400, "message")
	f(project, bearer, message(`,"data":{"a":1}`), 400, "message")
	f(project, bearer, message(`,"data":{"from":"x"}`), 400, "message.data")
	f(project, bearer, message(`,"android":{"ttl":"3"}`), 400, "message.android.ttl")
	f(project, bearer, message(`,"android":{"ttl":"2419201s"}`), 400, "message.android.ttl")
	f(project, bearer, message(`,"android":{"priority":"urgent"}`), 400, "message.android.priority")
	f(project, bearer, message(`,"data":{"a":"`+strings.Repeat("x", 4096)+`"}`), 400, "too big")
	sim.EndAccess()
	f(project, bearer, message(""), 401, "UNAUTHENTICATED")
}

func TestOnDeliver(t *testing.T) {
	sim, hc, config := start(t)
	bearer, err := access(hc, config)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *fcmsim.Message, 1)
	sim.OnDeliver(token, func(m *fcmsim.Message) { got <- m })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, sim.URL()+"/v1/projects/example/messages:send",
		strings.NewReader(`{"message":{"token":"`+token+`","data":{"a":"b"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if m := <-got; m.Data["a"] != "b" {
		t.Errorf("%+v", m)
	}
	if accepted, refused := sim.Counts(); accepted != 1 || refused != 0 || len(sim.Pushes()) != 1 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
}

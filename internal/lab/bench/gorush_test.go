package bench

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// newAPNsStage returns a stage with nothing but the simulator.
func newAPNsStage(t *testing.T) *stage {
	s := &stage{dir: t.TempDir()}
	if err := s.openAPNs(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.children.Stop()
		s.apns.Close()
	})
	return s
}

// TestConnectProxy: a client of Apple's host name speaks HTTP/2 to the simulator, on one
// connection that it has verified. Other hosts are refused.
func TestConnectProxy(t *testing.T) {
	t.Parallel()
	s := newAPNsStage(t)
	proxy := connectProxy(appleHost+":443", s.apns.Host())
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(at), ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: s.apns.Authority().Pool()}}
	defer transport.CloseIdleConnections()
	post := func(host string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+"/3/device/x", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		return transport.RoundTrip(req)
	}
	for range 2 {
		res, err := post(appleHost)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || res.ProtoMajor != 2 { // there is no topic
			t.Errorf("got %s by %s, want 400 by HTTP/2", res.Status, res.Proto)
		}
	}
	if _, ever := s.apns.Connections(); ever != 1 {
		t.Errorf("%d connections, want 1", ever)
	}
	if res, err := post("localhost"); err == nil {
		res.Body.Close()
		t.Errorf("another host got %s", res.Status)
	}
}

// TestGorushPush: what gorush sends is as long as sipwake's push for the same call, within
// a twentieth.
func TestGorushPush(t *testing.T) {
	t.Parallel()
	const caller, n = 123, 45
	var posted struct {
		Notifications []struct {
			Tokens []string
			Data   map[string]string
		}
	}
	if err := json.Unmarshal(gorushPush(caller, n), &posted); err != nil {
		t.Fatal(err)
	}
	const user = caller*callees + n
	if p := posted.Notifications; len(p) != 1 || len(p[0].Tokens) != 1 || p[0].Tokens[0] != token(user, 64) || p[0].Data["nfrom"] != "caller123" {
		t.Errorf("got %+v", p)
	}
	own, err := push.DefaultTemplates(pnparam.APNs).Payload(nil, &push.Request{Kind: push.Call, Provider: pnparam.APNs, Service: pnparam.VoIP,
		App: bundle, Token: secret.NewToken(token(user, 64)), Deadline: time.Now().Add(30 * time.Second),
		Values: push.Values{AOR: fmt.Sprintf("user%d@example.com", user), From: "sip:caller123@example.com", User: "caller123", Display: "Alice",
			CallID: "call-123-45", UUID: "0193e1c4-0000-7000-8000-000000000001"}}, 5120)
	if err != nil {
		t.Fatal(err)
	}
	sent := len(`{"aps":{},}`) + len(gorushData(caller, n, user)) - len(`{}`)
	if sent*20 < len(own)*19 || sent*20 > len(own)*21 {
		t.Errorf("gorush sends %d bytes, sipwake %d", sent, len(own))
	}
}

// TestGorush: gorush's pushes arrive in the closed loop, on connections that stay open.
func TestGorush(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gorush"); err != nil {
		t.Skip("there is no gorush on PATH")
	}
	s := newAPNsStage(t)
	g, err := s.startGorush(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer g.stop()
	b := &bench{stage: s}
	var before int
	for range 2 {
		_, before = s.apns.Connections()
		n, err := b.wakes(t.Context(), 300*time.Millisecond, g.target, gorushPush, queued)
		if err != nil || n == 0 {
			t.Fatalf("%d pushes: %v\n%s", n, err, g.LogTail())
		}
	}
	if _, after := s.apns.Connections(); after != before {
		t.Errorf("%d connections were opened after the first pushes", after-before)
	}
	for _, p := range s.apns.Pushes() {
		if p.Topic != bundle+".voip" || p.PushType != "voip" || p.Status != http.StatusOK {
			t.Fatalf("got push %+v", p)
		}
	}
}

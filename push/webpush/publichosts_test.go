package webpush

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

func TestDomainOf(t *testing.T) {
	for host, want := range map[string]string{
		"ntfy.sh": "ntfy.sh", "a.b.example.co.uk": "example.co.uk", "up.alice.duckdns.org": "alice.duckdns.org",
		"co.uk": "", "sh": "", "localhost": "", "push": "", "": "", "a.local": "", "x.internal": "", "ntfy.home.arpa": "ntfy.home.arpa",
		"127.0.0.1": "", "127.1": "", "0x7f.1": "", "[::1]": "", "a..example.com": "", "ntfy.sh.": "", "NTFY.sh": "",
	} {
		if got := domainOf(host); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

// Any host may be called that can be one in the Internet, on the ports that are
// allowed; nothing else is laxer for it.
func TestPublicHostsAllowed(t *testing.T) {
	g := newGuests(PublicHosts{Ports: []int{443, 8443}, InFlight: 1, Rate: 1}, 100)
	f := func(uri, origin, guest string) {
		t.Helper()
		e, ok := allow(rulesOf(t), g, uri)
		if ok != (origin != "") || e.origin != origin || e.guest != guest {
			t.Errorf("%s: %v %+v", uri, ok, e)
		}
	}
	f("https://ntfy.sh/upAbC?up=1", "https://ntfy.sh", "ntfy.sh")
	f("https://Push.Example.COM:8443/x", "https://push.example.com:8443", "example.com")
	f("https://fcm.googleapis.com/x", "https://fcm.googleapis.com", "") // one that is listed
	f("https://ntfy.sh:80/x", "", "")
	f("http://ntfy.sh/x", "", "")
	f("https://localhost/x", "", "")
	f("https://8.8.8.8/x", "", "")
	f("https://[2001:4860:4860::8888]/x", "", "")
	f("https://router/x", "", "")
	f("https://nas.local/x", "", "")
	f("https://u@ntfy.sh/x", "", "")
	f("https://ntfy.sh/x#y", "", "")
	if _, ok := allow(rulesOf(t), newGuests(PublicHosts{}, 100), "https://ntfy.sh/x"); ok {
		t.Error("allowed though it is off")
	}
}

func TestGuestsAreBounded(t *testing.T) {
	now := time.Now()
	g := newGuests(PublicHosts{Ports: []int{443}, InFlight: 2, Rate: 5}, 16) // 4 together
	f := func(domain string, want bool) {
		t.Helper()
		if got := g.enter(domain, now); got != want {
			t.Errorf("%s: %v", domain, got)
		}
	}
	f("a.org", true)
	f("a.org", true)
	f("a.org", false) // its share
	f("b.org", true)
	f("c.org", true)
	f("d.org", false) // that of all
	g.leave("a.org")
	g.leave("b.org")
	f("d.org", true)
	g.leave("d.org")
	for range 3 {
		f("a.org", true)
		g.leave("a.org")
	}
	f("a.org", false) // its rate
	now = now.Add(time.Minute)
	f("a.org", true)
	g.leave("a.org")
	g.leave("a.org")
	g.leave("c.org")
	if g.total != 0 || len(g.inFlight) != 0 {
		t.Errorf("%d, %v", g.total, g.inFlight)
	}
}

// This machine's own addresses are inside, and so are the networks that the operator
// names, also behind NAT64.
func TestGuestsInside(t *testing.T) {
	g := newGuests(PublicHosts{Ports: []int{443}, Never: []string{"8.8.8.8/24", "2a00:1450::/32"}, InFlight: 1, Rate: 1}, 16)
	for a, want := range map[string]bool{
		"8.8.8.1:443": true, "[64:ff9b::8.8.8.1]:443": true, "[::ffff:8.8.8.1]:443": true, "[2a00:1450::1]:443": true, "127.0.0.1:443": true,
		"[64:ff9b::10.0.0.1]:443": true, "100.64.0.1:443": true, "[ff02::1]:443": true, "224.0.0.1:443": true,
		"9.9.9.9:443": false, "[2620:fe::fe]:443": false,
	} {
		if got := g.control(t.Context(), "tcp", a, nil) != nil; got != want {
			t.Errorf("%s: refused %v", a, got)
		}
	}
	if !g.refuses(netip.MustParseAddr("127.0.0.1")) {
		t.Error("its own address is not refused")
	}
}

// unlisted is a push service that no rule names, at ntfy.example.com.
type unlisted struct {
	*httptest.Server
	config   Config
	endpoint string
	requests chan *http.Request
	status   int
}

func newUnlisted(t *testing.T, change ...func(*Config)) *unlisted {
	t.Helper()
	u := &unlisted{requests: make(chan *http.Request, 100), status: http.StatusOK}
	u.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.requests <- r
		w.Header().Set("Location", "https://127.0.0.1/")
		w.WriteHeader(u.status)
		_, _ = w.Write([]byte(`{"id":"x","event":"message"}`)) // ntfy's answer
	}))
	t.Cleanup(u.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(u.URL, "https://"), ":")
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	u.endpoint = "https://ntfy.example.com:" + port + "/upTopic?up=1"
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	u.config = Config{VAPIDKeyFile: write("vapid.pem", "PRIVATE KEY", der), Subject: "mailto:admin@example.com",
		CAFile: write("ca.pem", "CERTIFICATE", u.Certificate().Raw), Hosts: []string{"push.example.org"},
		PublicHosts: PublicHosts{Ports: []int{n}}, AllowPrivate: true}
	for _, c := range change {
		c(&u.config)
	}
	u.config.SetDefaults()
	u.config.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	return u
}

// push pushes to the endpoint, whose name leads where addrs says.
func (u *unlisted) push(t *testing.T, p *Provider, keys *pnparam.WebPushKeys) push.Reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return p.Push(ctx, &push.Notification{Kind: push.Call, Token: secret.NewToken(u.endpoint), Keys: keys,
		Payload: []byte(`{"ntype":"0"}`), Deadline: time.Now().Add(20 * time.Second)})
}

func (u *unlisted) client(t *testing.T, addr string) *Provider {
	t.Helper()
	p, _, err := u.config.client(names(t, map[string]string{"ntfy.example.com": addr}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func browserKeys(t *testing.T) *pnparam.WebPushKeys {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return &pnparam.WebPushKeys{P256dh: secret.NewToken(b64(key.PublicKey().Bytes())), Auth: secret.NewToken(b64(make([]byte, 16)))}
}

// A UnifiedPush endpoint at a host that nobody has listed rings, with a payload that
// only the phone can read.
func TestUnlistedHostRings(t *testing.T) {
	u := newUnlisted(t)
	p := u.client(t, "127.0.0.1")
	for _, keys := range []*pnparam.WebPushKeys{nil, browserKeys(t)} {
		if r := u.push(t, p, keys); r.Reason != push.Accepted {
			t.Fatalf("%+v", r)
		}
		req := <-u.requests
		if encrypted := req.Header.Get("Content-Encoding") == "aes128gcm"; encrypted != (keys != nil) || req.URL.Path != "/upTopic" || req.Header.Get("TTL") != "0" {
			t.Errorf("%v %s", req.Header, req.URL)
		}
	}
}

// A name that nobody has listed and that leads inside is its token's fault, and nothing
// is connected to.
func TestUnlistedHostInside(t *testing.T) {
	u := newUnlisted(t, func(c *Config) { c.AllowPrivate = false })
	for _, addr := range []string{"127.0.0.1", "10.0.0.1", "100.64.0.1", "169.254.169.254", "::1", "fd00::1", "fe80::1", "::ffff:127.0.0.1",
		"64:ff9b::7f00:1", "224.0.0.1", "ff02::1"} {
		r := u.push(t, u.client(t, addr), nil)
		if r.Reason != push.TokenBad || r.About != push.AboutToken || strings.Contains(r.Detail, "ntfy") {
			t.Errorf("%s: %+v", addr, r)
		}
	}
	if n := len(u.requests); n != 0 {
		t.Errorf("%d requests came inside", n)
	}
}

// A name that led to a public host the last time (DNS rebinding) is looked at anew with
// each connection.
func TestRebinding(t *testing.T) {
	u := newUnlisted(t, func(c *Config) { c.AllowPrivate = false })
	var asked atomic.Int32
	resolver := answering(t, func(q dnsmessage.Question) string {
		if q.Type != dnsmessage.TypeA {
			return ""
		}
		if asked.Add(1) == 1 {
			return "192.0.2.1" // where nobody is: refused too
		}
		return "127.0.0.1"
	})
	p, _, err := u.config.client(resolver, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 3 {
		if r := u.push(t, p, nil); r.Reason != push.TokenBad {
			t.Errorf("%+v", r)
		}
	}
	if asked.Load() < 3 || len(u.requests) != 0 {
		t.Errorf("the name was resolved %d times, %d requests came", asked.Load(), len(u.requests))
	}
}

// What a stranger's push service says of our key is no reason for an alert, and its
// redirects lead nowhere.
func TestUnlistedHostIsAStranger(t *testing.T) {
	u := newUnlisted(t)
	p := u.client(t, "127.0.0.1")
	for status, want := range map[int]push.Reason{
		401: push.TokenBad, 403: push.TokenBad, 404: push.TokenDead, 410: push.TokenDead, 429: push.Throttled, 507: push.Unavailable,
		301: push.BadRequest, 307: push.BadRequest,
	} {
		u.status = status
		r := u.push(t, p, nil)
		if r.Reason != want || r.About == push.AboutCredential {
			t.Errorf("%d: %+v, want %s", status, r, want)
		}
		<-u.requests
		if len(u.requests) != 0 {
			t.Errorf("%d led to another request", status)
		}
	}
}

// One that is flooded, or slow, holds its share and leaves the others theirs.
func TestUnlistedHostIsBounded(t *testing.T) {
	u := newUnlisted(t, func(c *Config) { c.PublicHosts.Rate = 3 })
	p := u.client(t, "127.0.0.1")
	got := ""
	for range 5 {
		got += fmt.Sprint(u.push(t, p, nil).Reason, " ")
	}
	if got != "accepted accepted accepted throttled throttled " {
		t.Error(got)
	}
}

package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fastjson"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
)

// A client's certificate is looked at with each request: it may end while its
// connection is open, or a reload may bring other CAs and names.
func TestCertificateOfEachRequest(t *testing.T) {
	ca, _, _ := certified(t)
	other, _, _ := certified(t)
	cert, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := func(pem []byte) []*x509.Certificate {
		file := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := readCertificates(file)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	own, others := roots(ca.PEM()), roots(other.PEM())
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, own[0]}}}
	now := time.Now()
	for what, c := range map[string]struct {
		a     access
		state *tls.ConnectionState
		now   time.Time
		want  bool
	}{
		"good":         {access{cas: own}, state, now, true},
		"its name":     {access{cas: own, names: []string{"x", "127.0.0.1"}}, state, now, true},
		"ended":        {access{cas: own}, state, leaf.NotAfter.Add(time.Second), false},
		"another CA":   {access{cas: others}, state, now, false},
		"another name": {access{cas: own, names: []string{"192.0.2.1"}}, state, now, false},
		"none":         {access{cas: own}, &tls.ConnectionState{}, now, false},
		"no TLS":       {access{cas: own}, nil, now, false},
	} {
		if got := c.a.hasCertificate(c.state, c.now); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// The interface for scripts has the networks and the certificates of RPC, and its token
// opens nothing else.
func TestScriptsComeThroughTheSameDoor(t *testing.T) {
	const script = "GET /mvapireq/?apientry=none&authkey=" + scriptToken + " HTTP/1.1\r\nHost: x\r\n\r\n"
	status := func(cfg Config) int {
		t.Helper()
		s := serve(t, withPush(t, cfg), nil)
		code, _, _ := ask(t, s.dial(""), script)
		return code
	}
	if got := status(Config{}); got != 400 {
		t.Errorf("with the token: %d", got)
	}
	if got := status(Config{Networks: []string{"192.0.2.0/24"}}); got != 403 {
		t.Errorf("from another network: %d", got)
	}
	ca, cert, key := certified(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, withPush(t, Config{CertFile: cert, KeyFile: key}), nil)
	s.ca = ca
	open := s.dial("") // without a certificate, while none is asked for
	if got, _, _ := ask(t, open, script); got != 400 {
		t.Errorf("over TLS: %d", got)
	}
	cfg := s.settings.Load().Config
	cfg.ClientCAFile = file
	apply, err := s.Prepare(cfg)
	if err != nil {
		t.Fatal(err)
	}
	apply()
	if got, _, _ := ask(t, open, script); got != 401 {
		t.Errorf("without a certificate: %d", got)
	}
	rpc := serve(t, withPush(t, Config{}), nil)
	if got, _, _ := ask(t, rpc.dial(""), post("Authorization: Bearer "+scriptToken+"\r\n", info)); got != 401 {
		t.Errorf("RPC with the token of scripts: %d", got)
	}
}

// No token opens two doors, that of scripts neither.
func TestScriptTokensOfTenants(t *testing.T) {
	cfg := withPush(t, withTenant(t, 5))
	cfg.SetDefaults()
	for what, file := range map[string]string{"the operator's scripts": cfg.HTTPPush.TokenFile, "the tenant's own": cfg.Tenants[0].TokenFiles[0]} {
		same := cfg
		same.Tenants = []Tenant{cfg.Tenants[0]}
		same.Tenants[0].HTTPPush.TokenFile = file
		if err := Check(same); err == nil || !strings.HasPrefix(err.Error(), "tenants[0].http_push.token_file: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A tenant has a few places for requests, and one that holds them all keeps nobody else
// out; its batches count whole.
func TestTenantHoldsItsPlacesAlone(t *testing.T) {
	begun, gate := make(chan struct{}), make(chan struct{})
	s := serve(t, withTenant(t, 1000), map[string]method{
		"push.list": func(context.Context, *params) (any, error) { begun <- struct{}{}; <-gate; return "done", nil },
		"push.send": func(context.Context, *params) (any, error) { return "sent", nil }})
	const list, send = `{"jsonrpc":"2.0","id":1,"method":"push.list"}`, `{"jsonrpc":"2.0","id":1,"method":"push.send"}`
	ended := make(chan int, tenantInFlight)
	for range tenantInFlight {
		conn := s.dial("")
		go func() {
			status, _, _ := ask(t, conn, post(asTenant, list))
			ended <- status
		}()
		<-begun
	}
	if status, body, _ := ask(t, s.dial(""), post(asTenant, send)); status != 503 || !strings.Contains(body, "-32002") {
		t.Errorf("one more: %d %s", status, body)
	}
	if status, _, _ := ask(t, s.dial(""), post(proven, send)); status != 200 {
		t.Errorf("the operator: %d", status)
	}
	close(gate)
	for range tenantInFlight {
		if status := <-ended; status != 200 {
			t.Errorf("one that held a place: %d", status)
		}
	}
	if status, _, _ := ask(t, s.dial(""), post(asTenant, send)); status != 200 {
		t.Errorf("after that: %d", status)
	}

	few := serve(t, withTenant(t, 10), nil)
	batch := "[" + strings.Repeat(discover+",", 9) + discover + "]"
	if status, _, _ := ask(t, few.dial(""), post(asTenant, batch)); status != 200 {
		t.Errorf("a batch: %d", status)
	}
	if status, _, _ := ask(t, few.dial(""), post(asTenant, discover)); status != 503 {
		t.Errorf("one more than a second's requests: %d", status)
	}
}

// A push.many of a tenant is no faster than the tenant may be.
func TestTenantRateOfMany(t *testing.T) {
	s, by := &Server{}, newTenant(&Tenant{Name: "acme", Domains: []string{"acme.example"}, RateLimit: 30}, secret.NewText(acmeToken))
	p := params{v: fastjson.MustParse(`{"kind":"custom","aors":["a@acme.example"],"rate":31}`), by: by}
	_, err := s.pushMany(t.Context(), &p)
	if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != "rate" {
		t.Errorf("%v", err)
	}
}

// What a tenant shows as a cursor is one that it was given.
func TestTenantCursorsAreAskedFor(t *testing.T) {
	s, by := &Server{}, newTenant(&Tenant{Name: "acme", Domains: []string{"acme.example"}, RateLimit: 30}, secret.NewText(acmeToken))
	for name, m := range map[string]method{"push.list": s.pushList, "wake.trace": s.wakeTrace, "upper.list": s.upperList} {
		for _, cursor := range []string{"x", "due 0", "message-1", "1.id"} {
			_, err := m(t.Context(), &params{v: fastjson.MustParse(`{"cursor":"` + cursor + `"}`), by: by})
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != "cursor" {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

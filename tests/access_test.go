package tests

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/labca"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// pki is a CA in a directory, with the files of those it certified.
type pki struct {
	t   *testing.T
	dir string
	ca  *labca.CA
}

func newPKI(t *testing.T, name string) *pki {
	t.Helper()
	ca, err := labca.New(name)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{t, t.TempDir(), ca}
	p.write("ca.pem", ca.PEM())
	return p
}

func (p *pki) write(name string, text []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), text, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pki) file(name string) string { return filepath.Join(p.dir, name) }

// server makes NAME.pem and NAME.key for 127.0.0.1.
func (p *pki) server(name string) {
	p.t.Helper()
	c, err := p.ca.Server("127.0.0.1")
	if err != nil {
		p.t.Fatal(err)
	}
	p.save(name, c.Certificate[0], c.PrivateKey.(*ecdsa.PrivateKey))
}

// client makes NAME.pem and NAME.key and returns what a client shows.
func (p *pki) client(name string, end time.Time) tls.Certificate {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := p.ca.Client(pkix.Name{CommonName: name}, key.Public(), end)
	if err != nil {
		p.t.Fatal(err)
	}
	p.save(name, c.Raw, key)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

func (p *pki) save(name string, cert []byte, key *ecdsa.PrivateKey) {
	p.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	p.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// rehash gives the CA the file name by which OpenSSL finds it in a directory: the
// SHA-1 of its subject in canonical form, as X509_NAME_hash(3) has it.
func (p *pki) rehash(commonName string) {
	p.t.Helper()
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"utf8"`
	}
	subject, err := asn1.MarshalWithParams([]attribute{{asn1.ObjectIdentifier{2, 5, 4, 3}, commonName}}, "set")
	if err != nil {
		p.t.Fatal(err)
	}
	sum := sha1.Sum(subject)
	p.write(fmt.Sprintf("%08x.0", binary.LittleEndian.Uint32(sum[:])), p.ca.PEM())
}

// caller calls an https listener with a certificate, or none, on one connection.
func (p *pki) caller(certs ...tls.Certificate) *http.Client {
	t := &http.Transport{MaxConnsPerHost: 1, TLSClientConfig: &tls.Config{RootCAs: p.ca.Pool(), Certificates: certs}}
	p.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// load asks for service.load; status 0 is a connection that was refused.
func load(t *testing.T, r *rig, c *http.Client) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+r.app.RPCAddr()+"/rpc",
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"service.load"}`))
	if err != nil {
		t.Fatal(err)
	}
	if r.auth != "" {
		req.Header.Set("Authorization", "Bearer "+r.auth)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body) // else the connection is not used again
	return res.StatusCode
}

func (p *pki) rpc(more string) string {
	return fmt.Sprintf("  cert_file: %s\n  key_file: %s\n  client_ca_file: %s\n%s", p.file("sipwake.pem"), p.file("sipwake.key"), p.file("ca.pem"), more)
}

// Only clients of our CA, only those named, and no longer than they are.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ours, others := newPKI(t, "ours"), newPKI(t, "others")
	ours.server("sipwake")
	edge1, edge2 := ours.client("edge1", time.Time{}), ours.client("edge2", time.Time{})
	r := newRig(t, rigOptions{rpc: ours.rpc("  client_names: [edge1, nobody]")})
	for _, c := range []struct {
		who  string
		cert []tls.Certificate
		want int
	}{
		{"who is named", []tls.Certificate{edge1}, 200},
		{"who is not named", []tls.Certificate{edge2}, 401},
		{"nobody", nil, 0},
		{"one of another CA", []tls.Certificate{others.client("edge1", time.Time{})}, 0},
		{"one whose time is over", []tls.Certificate{ours.client("edge1", time.Now().Add(-time.Minute))}, 0},
	} {
		if got := load(t, r, ours.caller(c.cert...)); got != c.want {
			t.Errorf("%s: %d, want %d", c.who, got, c.want)
		}
	}
	soon := ours.caller(ours.client("edge1", time.Now().Add(3*time.Second)))
	if got := load(t, r, soon); got != 200 {
		t.Fatalf("one whose time is not over yet: %d", got)
	}
	eventually(t, "an open connection ends with its certificate", func() bool { return load(t, r, soon) != 200 })
}

// A reload takes new CAs, names and server certificates, also for connections that
// are open.
func TestClientCertificatesReload(t *testing.T) {
	t.Parallel()
	ours, next := newPKI(t, "ours"), newPKI(t, "next")
	ours.server("sipwake")
	r := newRig(t, rigOptions{rpc: ours.rpc("  client_names: [edge1]")})
	old := ours.caller(ours.client("edge1", time.Time{}))
	if got := load(t, r, old); got != 200 {
		t.Fatalf("before: %d", got)
	}
	edit := func(from, to string) {
		t.Helper()
		r.edit(from, to)
		r.reload()
	}
	edit("client_names: [edge1]", "client_names: [edge2]")
	if got := load(t, r, old); got != 401 {
		t.Errorf("after its name went: %d", got)
	}
	edit("client_names: [edge2]", "client_names: [edge1]")
	if got := load(t, r, old); got != 200 {
		t.Errorf("after its name came back: %d", got)
	}
	next.server("sipwake")
	ours.write("ca.pem", next.ca.PEM()) // the same file name, another CA
	for _, name := range []string{"sipwake.pem", "sipwake.key"} {
		text, err := os.ReadFile(next.file(name))
		if err != nil {
			t.Fatal(err)
		}
		ours.write(name, text)
	}
	r.reload()
	if got := load(t, r, old); got != 401 {
		t.Errorf("a connection of the CA that went: %d", got)
	}
	if got := load(t, r, next.caller(next.client("edge1", time.Time{}))); got != 200 {
		t.Errorf("one of the CA that came: %d", got)
	}
	ours.write("ca.pem", []byte("no certificate"))
	cfg, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.app.Reload(cfg); err == nil || !strings.Contains(err.Error(), "rpc.client_ca_file: cannot read certificates") {
		t.Errorf("a broken CA file: %v", err)
	}
}

// A certificate and a token: both must be valid. A listener without TLS cannot require
// certificates, so it does not start.
func TestClientCertificatesAndTokens(t *testing.T) {
	t.Parallel()
	ours := newPKI(t, "ours")
	ours.server("sipwake")
	edge1 := ours.client("edge1", time.Time{})
	r := newRig(t, rigOptions{rpc: ours.rpc("  token_files: [" + writeTemp(t, "bearer-token-7d1f0a") + "]")})
	if got := load(t, r, ours.caller(edge1)); got != 401 {
		t.Errorf("without the token: %d", got)
	}
	r.auth = "bearer-token-7d1f0a"
	if got := load(t, r, ours.caller(edge1)); got != 200 {
		t.Errorf("with both: %d", got)
	}
	if got := load(t, r, ours.caller()); got != 0 {
		t.Errorf("without a certificate: %d", got)
	}

	plain := newRig(t, rigOptions{})
	plain.edit("rpc:\n", "rpc:\n"+ours.rpc("")+"\n")
	cfg, err := config.Load(plain.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.app.Reload(cfg); err == nil || !strings.Contains(err.Error(), "rpc.client_ca_file: the listener speaks no TLS until a restart") {
		t.Errorf("certificates without TLS: %v", err)
	}
	plain.call("service.load", nil, nil) // all is as before
}

// Kamailio shows its own certificate and looks at sipwake's.
func TestKamailioClientCertificate(t *testing.T) {
	t.Parallel()
	kamailio().found(t)
	ours, others := newPKI(t, "ours"), newPKI(t, "others")
	ours.server("sipwake")
	ours.client(nodeID, time.Time{})
	ours.rehash("ours")
	others.rehash("others")
	r := newRig(t, rigOptions{rpc: ours.rpc("  deadline: 10s\n  client_names: [" + nodeID + "]")})
	for _, c := range []struct {
		name string
		ca   *pki
		want bool
	}{{"of our CA", ours, true}, {"that trusts another CA", others, false}} {
		t.Run(c.name, func(t *testing.T) {
			kind := kamailio()
			kind.start = func(ctx context.Context, _ proxyConfig) (proxy, error) {
				return stack.StartKamailio(ctx, stack.KamailioConfig{
					Node: nodeID, Secret: nodeSecret, URL: "https://" + r.app.RPCAddr() + "/rpc", Defines: map[string]string{
						"SIPWAKE_AWAKE_S":  "0",
						"SIPWAKE_RPC_MS":   "10000",
						"SIPWAKE_TLS_CA":   stack.Quote(c.ca.dir),
						"SIPWAKE_TLS_CERT": stack.Quote(ours.file(nodeID + ".pem")),
						"SIPWAKE_TLS_KEY":  stack.Quote(ours.file(nodeID + ".key")),
					}})
			}
			k := &proxyRig{rig: r, kind: kind, proxy: kind.run(t, proxyConfig{}), users: new(atomic.Int64), tokens: new(atomic.Int64)}
			s := k.scenario(t)
			before := r.requests("binding.register", "0")
			s.registered(s.iphone().Phone)
			if c.want {
				eventually(t, "sipwake heard of the REGISTER", func() bool { return r.requests("binding.register", "0") > before })
				return
			}
			eventually(t, "Kamailio refused sipwake's certificate", func() bool {
				log, err := os.ReadFile(k.proxy.Log())
				return err == nil && strings.Contains(string(log), "sipwake: no use of sipwake")
			})
			if n := r.requests("binding.register", "0"); n != before {
				t.Errorf("%d more REGISTERs reached sipwake", n-before)
			}
		})
	}
}

// One client cannot keep sipwake from the others, batch or not.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: patient + "\n  rate_limit: 20"})
	load := `{"jsonrpc":"2.0","id":1,"method":"service.load"}`
	flood := func(body string) (passed int) {
		for range 100 {
			status, answer := r.post(body)
			switch {
			case status == 200:
				passed++
			case status != 503 || !strings.Contains(string(answer), `"code":-32002,"message":"too many requests"`):
				t.Fatalf("%d %s", status, answer)
			}
		}
		return passed
	}
	began := time.Now()
	n := flood(load)
	if most := 20 + int(time.Since(began).Seconds()*20) + 1; n < 20 || n > most {
		t.Errorf("%d of 100 requests passed, want 20 to %d", n, most)
	}
	if _, metrics := r.get("/metrics"); !strings.Contains(metrics, fmt.Sprintf("sipwake_rpc_limited_total %d", 100-n)) {
		t.Error("the metric does not count them")
	}
	eventually(t, "the client may go on", func() bool { status, _ := r.post(load); return status == 200 })

	r.edit("rate_limit: 20", "rate_limit: 0")
	r.reload()
	if n := flood(load); n != 100 {
		t.Errorf("%d of 100 requests passed without a limit", n)
	}
	r = newRig(t, rigOptions{rpc: patient + "\n  rate_limit: 50"}) // whose bucket is full
	began = time.Now()
	n = flood("[" + load + strings.Repeat(","+load, 49) + "]")
	if most := 2 + int(time.Since(began).Seconds()); n < 1 || n > most {
		t.Errorf("%d batches of 50 passed, want 1 to %d", n, most)
	}
}

// A certificate for servers only, as public CAs make them since 2026, lets no client
// in, and the log says why. When the chains end is in the metrics.
func TestClientCertificateForServersOnly(t *testing.T) {
	t.Parallel()
	ours := newPKI(t, "ours")
	ours.server("sipwake")
	r := newRig(t, rigOptions{rpc: ours.rpc("")})
	server, err := ours.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if got := load(t, r, ours.caller(server)); got != 0 {
		t.Errorf("it was let in: %d", got)
	}
	eventually(t, "the reason", func() bool {
		log := r.logs.String()
		return strings.Contains(log, `"msg":"client certificate refused","peer":"127.0.0.1","reason":"it is for servers only`)
	})
	if got := load(t, r, newPKI(t, "others").caller(ours.client("edge1", time.Time{}))); got != 0 {
		t.Errorf("a server of another CA was taken: %d", got)
	}
	r.auth = ""
	_, metrics := r.get("/metrics")
	for _, series := range []string{`{field="rpc.cert_file"}`, `{field="rpc.client_ca_file"}`, `{field="apns[0].ca_file"}`} {
		if !strings.Contains(metrics, "sipwake_certificate_expiry_timestamp_seconds"+series+" 1.") {
			t.Errorf("no end of %s", series)
		}
	}
}

// The CAs that vouch for a push service are known from its handshake.
func TestChainOfPushService(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	const name = `sipwake_push_chain_expiry_timestamp_seconds{app="org.example.phone",environment="production",provider="apns"}`
	if r.metric(name) {
		t.Error("an end before any handshake")
	}
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1", nil)
	r.pushed(apnsToken(1), 1)
	if !r.metric(name) {
		t.Error("no end after a push")
	}
}

package tests

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/labca"
	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/kamailio/wire"
)

// The kamailio.cfg that comes with Kamailio, with sipwake in it.

// stock is a Kamailio that runs it.
type stock struct {
	*proxyRig
	ca   *labca.CA
	port int // of TLS
	// sipPort is 0 until it runs: it comes back where it was.
	sipPort int
}

// startStock wires the file, with these WITH_ features and the lines of
// docs/WEBSOCKET.md, and runs it.
func startStock(t *testing.T, features ...string) *stock {
	t.Helper()
	return startStockWith(t, rigOptions{}, func(script string) string { return script }, features...)
}

// startStockWith is startStock with a change of the wired file.
func startStockWith(t *testing.T, sipwake rigOptions, change func(string) string, features ...string) *stock {
	t.Helper()
	s := &stock{}
	var err error
	if s.ca, err = labca.New("kamailio"); err != nil {
		t.Fatal(err)
	}
	if s.port, err = stack.FreePort("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	kind := kamailio()
	kind.found(t)
	kind.quiet = false // it has no RTP proxy
	script, dir := change(s.script(t, features)), t.TempDir()
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		k, err := s.run(ctx, dir, script, c)
		if err != nil {
			return nil, err
		}
		return &restartable{proxy: k, start: func(ctx context.Context) (proxy, error) { return s.run(ctx, dir, script, c) }}, nil
	}
	s.proxyRig = table{name: "stock", sipwake: sipwake, proxy: proxyConfig{Hold: 30 * time.Second}}.start(t, kind)
	return s
}

// script returns the file with sipwake in it.
func (s *stock) script(t *testing.T, features []string) string {
	t.Helper()
	if modules, _ := filepath.Glob(must2(stack.Cache())(t) + "/*/usr/lib/*/kamailio/modules/websocket.so"); len(modules) == 0 {
		t.Skip("Kamailio has no module websocket: make setup")
	}
	listen := []string{"udp:SIP_ADDR:SIP_PORT", "tcp:SIP_ADDR:SIP_PORT"}
	if slices.Contains(features, "WITH_TLS") {
		listen = append(listen, fmt.Sprintf("tls:127.0.0.1:%d", s.port))
	}
	return asDocSays(t, "docs/WEBSOCKET.md", wiredStock(t, listen, features...))
}

// run starts the node with the addresses and the certificate of this test.
func (s *stock) run(ctx context.Context, dir, script string, c proxyConfig) (proxy, error) {
	cert, err := s.ca.Server("127.0.0.1")
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	own := filepath.Join(dir, nodeID+".kamailio")
	file := func(name string) string { return filepath.Join(own, name) }
	tls := fmt.Sprintf("[server:default]\nmethod = TLSv1.2+\nverify_certificate = no\nprivate_key = %s\ncertificate = %s\n", file("key.pem"), file("cert.pem"))
	local := fmt.Sprintf("alias=%q\nauto_aliases=no\nlog_prefix_mode=1\n", domain)
	files := map[string]string{
		"kamailio-local.cfg": local + fmt.Sprintf("loadmodule \"db_text.so\"\n#!define DBURL \"text://%s\"\n", own),
		"version":            "table_name(string) table_version(int)\ndomain:2\ndomain_attrs:1\nsubscriber:7\nlocation:9\n",
		"subscriber":         subscribers(),
		"location":           locationTable,
		"domain":             "id(int,auto) domain(string) did(string,null) last_modified(int)\n1:" + domain + "::0\n2:" + otherDomain + "::0\n",
		"domain_attrs":       "id(int,auto) did(string) name(string) type(int) value(string) last_modified(int)\n",
		wire.LocalFile:       `modparam("ctl", "binrpc", CTL)` + "\n",
		"tls.cfg":            tls,
		"cert.pem":           string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})),
		"key.pem":            string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	}
	if err := os.MkdirAll(own, 0o700); err != nil {
		return nil, err
	}
	for name, text := range files {
		if _, err := os.Stat(file(name)); err == nil {
			continue // Kamailio runs again: its tables are its own
		}
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	k, err := stack.StartKamailio(ctx, stack.KamailioConfig{
		Node: nodeID, Secret: nodeSecret, URL: c.URL, Hold: c.Hold, Dir: dir, SIPPort: s.sipPort,
		Script: strings.Replace(script, "/etc/kamailio/tls.cfg", file("tls.cfg"), 1),
	})
	if err != nil {
		return nil, err
	}
	s.sipPort = int(netip.MustParseAddrPort(k.SIPAddress()).Port())
	return k, nil
}

func over(transport string) option { return func(c *phone.Config) { c.Transport = transport } }

// secure returns a phone over TLS or WSS.
func (s *stock) secure(transport string) option {
	return func(c *phone.Config) {
		c.Transport, c.RootCAs = transport, s.ca.Pool()
		c.Proxy = fmt.Sprintf("127.0.0.1:%d", s.port)
	}
}

// TestField18Transports: phones over TLS and in browsers sleep, come back on another
// connection, and can hang up, with everything in the file that such phones need.
func TestField18Transports(t *testing.T) {
	t.Parallel()
	s := startStock(t, "WITH_NAT", "WITH_TLS", "WITH_JSONRPC", "WITH_ANTIFLOOD")
	all := scenarios{}
	for name, transport := range map[string]option{
		"UDP": over(phone.UDP), "TCP": tcp, "WebSocket": over(phone.WS), "TLS": s.secure(phone.TLS), "WebSocket over TLS": s.secure(phone.WSS),
	} {
		all["asleep, "+name] = func(s *scenario) { wakesAndTalks(s, s.iphone(transport, answers)) }
		all["rung where it is, "+name] = func(s *scenario) { talksBothWays(s, transport) }
		all["came back many times, "+name] = func(s *scenario) { cameBackOften(s, s.iphone(transport, answers)) }
	}
	table{name: "transports", scenarios: all}.play(t, s.proxyRig)
}

// talksBothWays: caller and callee are of this kind, and the callee hangs up.
func talksBothWays(s *scenario, transport option) {
	d := s.iphone(transport, answers)
	s.registered(d.Phone)
	s.forgotten(1)
	caller := s.caller(transport)
	c := s.callsFrom(caller, phone.InviteOptions{})
	c.ends(200)
	in := must(d.WaitInvite(s.ctx))(s)
	if err := in.Acked(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	if m := must(in.Bye(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("BYE got %d", m.Code())
	}
	must(caller.WaitBye(s.ctx))(s)
	s.rung(d.Phone, 1)
}

// TestField17Stock: what the file does besides, it does for calls that sipwake.cfg
// takes.
func TestField17Stock(t *testing.T) {
	t.Parallel()
	s := startStock(t, "WITH_NAT", "WITH_JSONRPC", "WITH_ANTIFLOOD", "WITH_VOICEMAIL")
	table{name: "stock", scenarios: scenarios{
		"a missed call is in the log": func(s *scenario) {
			d := s.iphone(behaves(phone.Reject(603, 0)))
			s.asleep(d)
			c := s.calls()
			c.ends(603)
			eventually(s.t, "the missed call", func() bool {
				log := must(os.ReadFile(s.proxy.Log()))(s)
				return strings.Contains(string(log), "ACC: call missed") && strings.Contains(string(log), c.CallID())
			})
		},
	}}.play(t, s.proxyRig)
	t.Run("voicemail", func(t *testing.T) { voicemail(s.scenario(t)) })
}

// voicemail takes the call of a phone that is busy, and of one that nobody can wake.
func voicemail(s *scenario) {
	box := s.phone(answers)
	if err := box.Open(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	k := s.proxy.(*restartable).proxy.(*stack.Kamailio)
	at := box.LocalAddr()
	must(k.Command(s.ctx, "cfg.sets", "voicemail", "srv_ip", at.Addr().String()))(s)
	must(k.Command(s.ctx, "cfg.sets", "voicemail", "srv_port", fmt.Sprintf("s:%d", at.Port())))(s)
	d := s.iphone(behaves(phone.Reject(486, 0)))
	s.asleep(d)
	s.calls().talks(box)
	s.nextUser()
	box.SetContact("<sip:" + s.user + "@" + at.String() + ">") // it takes calls for everybody
	d = s.iphone(tcp)
	s.dead(d)
	s.asleep(d)
	s.calls().talks(box)
}

const otherDomain = "example.org"

// TestField07TwoDomains: users of the same name in two domains are two users.
func TestField07TwoDomains(t *testing.T) {
	t.Parallel()
	s := startStock(t, "WITH_MULTIDOMAIN", "WITH_JSONRPC").scenario(t)
	there := func(c *phone.Config) { c.Domain = otherDomain }
	d, e := s.iphone(tcp, answers), s.iphone(tcp, answers, there)
	s.asleep(d)
	s.registered(e.Phone)
	eventually(t, "both are bound", func() bool { return s.bindings(s.user+"@"+otherDomain) == 1 })
	e.Sleep()
	c := s.callsFrom(s.caller(there), phone.InviteOptions{})
	c.ends(200)
	must(e.Next(s.ctx, phone.Answered))(s)
	s.rung(e.Phone, 1)
	s.rung(d.Phone, 0)
	if n := len(find(d.Events(), phone.GotPush)); n != 0 {
		t.Errorf("%d pushes to the user of the other domain", n)
	}
}

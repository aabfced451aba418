package webpush

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func rulesOf(t *testing.T, hosts ...string) []hostRule {
	t.Helper()
	if hosts == nil {
		c := &Config{}
		c.SetDefaults()
		hosts = c.Hosts
	}
	var rules []hostRule
	for _, h := range hosts {
		r, problem := parseHostRule(h)
		if problem != "" {
			t.Fatalf("%s %s", h, problem)
		}
		rules = append(rules, r)
	}
	return rules
}

func TestAllowed(t *testing.T) {
	f := func(uri, url, origin string) {
		t.Helper()
		e, ok := allow(rulesOf(t), nil, uri)
		if !ok || e.url != url || e.origin != origin {
			t.Errorf("%s: %v %+v", uri, ok, e)
		}
	}
	same := func(uri, origin string) { t.Helper(); f(uri, uri, origin) }
	same("https://fcm.googleapis.com/fcm/send/a:B-_%2F?x=1&y=%20", "https://fcm.googleapis.com")
	same("https://updates.push.services.mozilla.com/wpush/v2/gAAAAA", "https://updates.push.services.mozilla.com")
	same("https://web.push.apple.com/QGz", "https://web.push.apple.com")
	same("https://wns2-by3p.notify.windows.com/w/?token=BQ%3d", "https://wns2-by3p.notify.windows.com")
	f("https://FCM.GoogleAPIs.com:443/x", "https://fcm.googleapis.com/x", "https://fcm.googleapis.com")
	f("HTTPS://fcm.googleapis.com:/x", "https://fcm.googleapis.com/x", "https://fcm.googleapis.com")

	lab := rulesOf(t, "127.0.0.1:8443", "[::1]:8443", "*.lab.example:8443")
	for _, origin := range []string{"https://127.0.0.1:8443", "https://[::1]:8443", "https://a.b.lab.example:8443"} {
		if e, ok := allow(lab, nil, origin+"/x"); !ok || e.origin != origin || e.url != origin+"/x" {
			t.Errorf("%s: %v %+v", origin, ok, e)
		}
	}
}

// hostile are push URIs that must not be called.
func hostile() []string {
	return []string{
		"", "x", "/", "//fcm.googleapis.com/x", "https:fcm.googleapis.com", "https://", "https:///x",
		// another scheme
		"http://fcm.googleapis.com/x", "ftp://fcm.googleapis.com/x", "file:///etc/passwd", "gopher://fcm.googleapis.com/x",
		// another port
		"https://fcm.googleapis.com:80/x", "https://fcm.googleapis.com:8443/x", "https://fcm.googleapis.com:0443/x",
		"https://fcm.googleapis.com:0/x", "https://fcm.googleapis.com:65979/x", "https://fcm.googleapis.com:-443/x",
		// another host that looks like one that is allowed
		"https://evil.example/fcm.googleapis.com", "https://fcm.googleapis.com.evil.example/x", "https://evilfcm.googleapis.com/x",
		"https://x.fcm.googleapis.com/x", "https://googleapis.com/x", "https://push.apple.com/x", "https://.push.apple.com/x",
		"https://evilpush.apple.com/x", "https://push.apple.com.evil.example/x", "https://evil.example?.push.apple.com",
		"https://evil.example/.push.apple.com", "https://evil.example#.push.apple.com", "https://evil.example\\.push.apple.com/x",
		"https://evil.example%2f.push.apple.com/x", "https://evil.example%00.push.apple.com/x", "https://a..push.apple.com/x",
		"https://a_b.push.apple.com/x", "https://*.push.apple.com/x", "https://fcm.googleapis.com./x",
		"https://web.push.apple.com./x", "https://fcm.googleap\u0131s.com/x", "https://\uff46cm.googleapis.com/x",
		// user information and fragments
		"https://fcm.googleapis.com@evil.example/x", "https://user@fcm.googleapis.com/x", "https://u:p@fcm.googleapis.com/x",
		"https://@fcm.googleapis.com/x", "https://evil.example:443@fcm.googleapis.com/x", "https://fcm.googleapis.com:443@evil.example/x",
		"https://fcm.googleapis.com/x#y",
		// addresses, in all their spellings
		"https://127.0.0.1/x", "https://127.1/x", "https://0/x", "https://2130706433/x", "https://0x7f000001/x", "https://0x7f.1/x",
		"https://0177.0.0.1/x", "https://017700000001/x", "https://127.0.0.1.push.apple.com.127.0.0.1/x", "https://localhost/x",
		"https://169.254.169.254/latest/meta-data/", "https://10.0.0.1/x", "https://192.168.1.1/x", "https://172.16.0.1/x",
		"https://[::1]/x", "https://[::]/x", "https://[::ffff:127.0.0.1]/x", "https://[::ffff:7f00:1]/x", "https://[fe80::1%25eth0]/x",
		"https://[fd00::1]/x", "https://[64:ff9b::7f00:1]/x", "https://[2002:7f00:1::]/x", "https://[::1].push.apple.com/x",
		"https://8.8.8.8/x", "https://[2001:4860:4860::8888]/x",
		// what no header or log should see
		"https://fcm.googleapis.com/\r\nX: y", "https://fcm.googleapis.com/a b", "https://fcm.googleapis.com/\x7f",
		"https://fcm.googleapis.com/%zz", "https://fcm.googleapis.com/" + strings.Repeat("a", 4096),
	}
}

func TestNotAllowed(t *testing.T) {
	rules := rulesOf(t)
	for _, uri := range hostile() {
		if e, ok := allow(rules, nil, uri); ok {
			t.Errorf("%q is allowed: %+v", uri, e)
		}
	}
	// An address that is allowed is so in one spelling and on one port only.
	lab := rulesOf(t, "127.0.0.1:8443", "[::1]:8443")
	for _, host := range []string{"127.0.0.1", "127.1:8443", "2130706433:8443", "127.0.0.2:8443", "[::1]",
		"[::ffff:127.0.0.1]:8443", "[0:0:0:0:0:0:0:1]:8443", "localhost:8443"} {
		if e, ok := allow(lab, nil, "https://"+host+"/x"); ok {
			t.Errorf("%s is allowed: %+v", host, e)
		}
	}
}

func TestPublic(t *testing.T) {
	f := func(want bool, addrs ...string) {
		t.Helper()
		for _, s := range addrs {
			if got := public(netip.MustParseAddr(s)); got != want {
				t.Errorf("%s: %v", s, got)
			}
		}
	}
	f(true, "8.8.8.8", "142.250.0.1", "17.0.0.1", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "223.255.255.255",
		"2a00:1450:4001::1", "2620:149::1", "2001:4860:4860::8888", "2001:200::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")
	f(false, "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254",
		"172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.255.255", "198.18.0.1", "198.19.255.255",
		"198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255")
	f(false, "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1",
		"64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1",
		"4000::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "2a00::1%eth0")
}

// names runs a name server that gives every name the addresses that it has in
// the map, and returns a resolver that asks only it.
func names(t *testing.T, addrs map[string]string) *net.Resolver {
	t.Helper()
	return answering(t, func(q dnsmessage.Question) string { return addrs[strings.TrimSuffix(q.Name.String(), ".")] })
}

// answering runs a name server that asks answer for the address of each question, and
// returns a resolver that asks only it.
func answering(t *testing.T, answer func(dnsmessage.Question) string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-served })
	go func() {
		defer close(served)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			addr, _ := netip.ParseAddr(answer(q))
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0}
			switch {
			case addr.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: addr.As4()}})
			case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
			}
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// A name that is allowed must not lead to an address that is not public.
func TestNamesThatLeadInside(t *testing.T) {
	addrs := map[string]string{
		"a.push.example.com": "127.0.0.1", "b.push.example.com": "169.254.169.254", "c.push.example.com": "10.1.2.3",
		"d.push.example.com": "::1", "e.push.example.com": "fd00::1", "f.push.example.com": "0.0.0.0",
		"g.push.example.com": "::ffff:127.0.0.1", "h.push.example.com": "64:ff9b::7f00:1", "i.push.example.com": "fe80::1",
		"j.push.example.com": "::",
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	resolver := names(t, addrs)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	transport := newTransport(nil, onlyPublic, resolver, maxConns)
	for name := range addrs {
		conn, err := transport.DialContext(ctx, "tcp", net.JoinHostPort(name, port))
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, errNotPublic) {
			t.Errorf("%s (%s): %v", name, addrs[name], err)
		}
	}
	// The same name is reached where that is allowed: the test can fail.
	conn, err := newTransport(nil, nil, resolver, maxConns).DialContext(ctx, "tcp", net.JoinHostPort("a.push.example.com", port))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func FuzzAllow(f *testing.F) {
	for _, uri := range hostile() {
		f.Add(uri)
	}
	f.Add("https://web.push.apple.com:443/x?y")
	c := &Config{}
	c.SetDefaults()
	var rules []hostRule
	for _, h := range c.Hosts {
		r, _ := parseHostRule(h)
		rules = append(rules, r)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		e, ok := allow(rules, nil, uri)
		if !ok {
			return
		}
		host, found := strings.CutPrefix(e.origin, "https://")
		exact := host == "fcm.googleapis.com" || host == "updates.push.services.mozilla.com"
		below := strings.HasSuffix(host, ".push.apple.com") || strings.HasSuffix(host, ".notify.windows.com")
		if !found || !exact && !below || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
			t.Errorf("%q became %+v", uri, e)
		}
		if rest, ok := strings.CutPrefix(e.url, e.origin); !ok || rest != "" && rest[0] != '/' && rest[0] != '?' {
			t.Errorf("%q became %+v", uri, e)
		}
	})
}

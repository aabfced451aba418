package tests

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/push/acrobits"
)

// clientWait is how long an app made with Acrobits' SDK waits for the INVITE after it
// has registered: 3 s on iOS, 5 s on Android.
const clientWait = 3 * time.Second

// mediator is a simulated push service of Acrobits'.
type mediator struct {
	*httptest.Server
	mu     sync.Mutex
	pushes []map[string]string
}

func newMediator(t *testing.T) *mediator {
	t.Helper()
	m := &mediator{}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p map[string]string
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
			t.Errorf("the mediator got no JSON: %v", err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.pushes = append(m.pushes, p)
		fmt.Fprint(w, `{"code":200,"response":"Success"}`)
	}))
	t.Cleanup(m.Close)
	return m
}

// to returns the push with the verb to a selector, once it has come.
func (m *mediator) to(t *testing.T, selector, verb string) (found map[string]string) {
	t.Helper()
	eventually(t, verb+" at the mediator", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range m.pushes {
			if p["Selector"] == selector && p["verb"] == verb {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

const acrobitsSecret = "b5d1-secret-of-the-keys"

// acrobitsTable runs scenarios with a mediator and the listener for reports.
func acrobitsTable(t *testing.T, policy string, m *mediator, f map[string]func(*scenario, *mediator)) table {
	more := fmt.Sprintf("acrobits:\n  listen: 127.0.0.1:0\n  secret_file: %s\n  domain: %s\n  endpoint: %s\n  rate_limit: 0\n  policy: {%s}",
		writeTemp(t, acrobitsSecret), domain, m.URL, policy)
	tb := table{name: "acrobits", sipwake: rigOptions{more: more}, proxy: proxyConfig{Hold: 30 * time.Second, PushID: true}, scenarios: scenarios{}}
	for name, run := range f {
		tb.scenarios[name] = func(s *scenario) { run(s, m) }
	}
	return tb
}

// reports sends the recorded report of an app for the scenario's user, at the path.
func (s *scenario) reports(path, key string) int {
	s.t.Helper()
	recorded, err := os.ReadFile("testdata/acrobits-token-report.http")
	if err != nil {
		s.t.Fatal(err)
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(string(recorded), "\r\n", "\n"), "\n\n")
	body = strings.NewReplacer("USER", s.user, "KEY", key, "SELECTOR", s.user+"%3A7C3A0D14").Replace(strings.TrimSpace(body))
	head = strings.NewReplacer("/acrobits/token", path, "LENGTH", fmt.Sprint(len(body))).Replace(head)
	leak.Body(body)
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader([]byte(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body))))
	if err != nil {
		s.t.Fatal(err)
	}
	req.RequestURI, req.URL.Scheme, req.URL.Host = "", "http", s.app.ReportsAddr()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// userKey is what the account's settings of the scenario's user hold.
func (s *scenario) userKey() string {
	s.t.Helper()
	c := acrobits.Config{SecretFile: s.write(s.user+".secret", acrobitsSecret)}
	r, err := c.Reports()
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Key(s.aor()).Reveal()
}

func (s *scenario) reported200(path string) {
	s.t.Helper()
	if status := s.reports(path, s.userKey()); status != http.StatusOK {
		s.t.Fatalf("%s: HTTP %d", path, status)
	}
}

// An app made with Acrobits' SDK registers without push data, reports its tokens by
// HTTP, and is rung within the time that it waits.
func TestAcrobits(t *testing.T) {
	t.Parallel()
	for _, kind := range proxyKinds() {
		t.Run(kind.name, func(t *testing.T) {
			acrobitsTable(t, "", newMediator(t), map[string]func(*scenario, *mediator){
				"is woken": acrobitsWoken, "caller hangs up": acrobitsMissed, "answered elsewhere": acrobitsElsewhere,
				"account removed": acrobitsRemoved, "key of another": acrobitsForbidden,
			}).run(t, kind)
			acrobitsTable(t, "privacy: full", newMediator(t), map[string]func(*scenario, *mediator){
				"is woken by an opaque ID": acrobitsOpaque,
			}).run(t, kind)
		})
	}
}

// A reload takes a new certificate of the listener for reports, and the metric tells of
// the one that is served.
func TestAcrobitsCertificateReload(t *testing.T) {
	t.Parallel()
	old, next := newPKI(t, "old"), newPKI(t, "next")
	old.server("reports")
	next.server("reports")
	r := newRig(t, rigOptions{more: fmt.Sprintf("acrobits:\n  listen: 127.0.0.1:0\n  secret_file: %s\n  cert_file: %s\n  key_file: %s\n",
		writeTemp(t, acrobitsSecret), old.file("reports.pem"), old.file("reports.key"))})
	greeted := func(p *pki) error {
		c, err := tls.Dial("tcp", r.app.ReportsAddr(), &tls.Config{RootCAs: p.ca.Pool()})
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := greeted(old); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"reports.pem", "reports.key"} {
		old.write(name, must2(os.ReadFile(next.file(name)))(t))
	}
	r.reload()
	if err := greeted(next); err != nil {
		t.Errorf("after the reload: %v", err)
	}
	old.write("reports.key", []byte("no key"))
	if err := r.app.Reload(must2(config.Load(r.file))(t)); err == nil {
		t.Error("a broken key is taken")
	}
	if err := greeted(next); err != nil {
		t.Errorf("after a reload that failed: %v", err)
	}
}

// What is not served is not counted as a report of an app, but is counted, and told once
// in a while.
func TestAcrobitsLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{more: fmt.Sprintf("acrobits:\n  listen: 127.0.0.1:0\n  secret_file: %s\n  rate_limit: 1\n", writeTemp(t, acrobitsSecret))})
	refused := 0
	for range 50 {
		res := must2(http.Get("http://" + r.app.ReportsAddr() + "/acrobits/token"))(t)
		res.Body.Close()
		if res.StatusCode == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("there is no limit")
	}
	if _, text := r.get("/metrics"); !strings.Contains(text, fmt.Sprintf("\nsipwake_acrobits_reports_total{result=\"limited\"} %d\n", refused)) {
		t.Errorf("not %d limited", refused)
	}
	eventually(t, "a line in the log", func() bool { return strings.Contains(r.logs.String(), "reports of an app are refused: too many") })
	if n := strings.Count(r.logs.String(), "reports of an app are refused"); n > 10 {
		t.Errorf("%d lines for %d", n, refused)
	}
}

func selectorOf(s *scenario) string { return s.user + ":7C3A0D14" }

// wokenBy registers the phone, which the mediator has pushed, and returns the INVITE
// that it gets.
func wokenBy(s *scenario, p *phone.Phone) *phone.Message {
	s.t.Helper()
	began := time.Now()
	s.registered(p)
	eventually(s.t, "an INVITE", func() bool { return len(p.Requests("INVITE")) > 0 })
	if waited := time.Since(began); waited > clientWait {
		s.t.Errorf("the app waited %s for the INVITE", waited)
	}
	return p.Requests("INVITE")[0]
}

func acrobitsWoken(s *scenario, m *mediator) {
	s.nextUser()
	s.reported200("/acrobits/token")
	c := s.calls()
	push := m.to(s.t, selectorOf(s), "NotifyIncomingCall")
	if push["Id"] != c.CallID() || push["AppId"] != "com.example.phone.ios.pushkit" || push["DeviceToken"] == "" || push["UserName"] == "" {
		s.t.Errorf("%q", push)
	}
	p := s.phone(answers)
	if invite := wokenBy(s, p); invite.CallID() != push["Id"] {
		s.t.Errorf("the INVITE has Call-ID %q, the push %q", invite.CallID(), push["Id"])
	}
	c.talks(p)
	c.over("answered")
}

func acrobitsMissed(s *scenario, m *mediator) {
	s.nextUser()
	s.reported200("/acrobits/token")
	c := s.calls()
	m.to(s.t, selectorOf(s), "NotifyIncomingCall")
	c.cancels()
	c.over("cancelled")
	push := m.to(s.t, selectorOf(s), "NotifyIncomingCallMissed")
	if push["Id"] != c.CallID() {
		s.t.Errorf("%q", push)
	}
}

func acrobitsElsewhere(s *scenario, m *mediator) {
	s.nextUser()
	s.reported200("/acrobits/token")
	desk := s.phone(behaves(phone.Answer(time.Second)))
	s.registered(desk)
	c := s.calls()
	m.to(s.t, selectorOf(s), "NotifyIncomingCall")
	c.talks(desk)
	c.over("answered")
	m.to(s.t, selectorOf(s), "NotifyIncomingCallAnsweredElsewhere")
}

func acrobitsRemoved(s *scenario, _ *mediator) {
	s.nextUser()
	s.reported200("/acrobits/token")
	s.reported200("/acrobits/token") // each start of the app
	if n := s.bindings(s.aor()); n != 1 {
		s.t.Fatalf("%d bindings", n)
	}
	s.reported200("/acrobits/removed")
	if n := s.bindings(s.aor()); n != 0 {
		s.t.Errorf("%d bindings are left", n)
	}
}

func acrobitsForbidden(s *scenario, _ *mediator) {
	s.nextUser()
	key := s.userKey()
	s.nextUser()
	for _, path := range []string{"/acrobits/token", "/acrobits/removed"} {
		if status := s.reports(path, key); status != http.StatusForbidden {
			s.t.Errorf("%s with another user's key: HTTP %d", path, status)
		}
	}
	if status := s.reports("/rpc", key); status != http.StatusNotFound {
		s.t.Errorf("another path: HTTP %d", status)
	}
	if n := s.bindings(s.aor()); n != 0 {
		s.t.Errorf("%d bindings", n)
	}
	if _, metrics := s.get("/metrics"); !strings.Contains(metrics, `sipwake_acrobits_reports_total{result="forbidden"} 2`) {
		s.t.Error("what was refused is not counted")
	}
}

// acrobitsOpaque: the push has nothing but a UUID, and the INVITE has it as X-Push-ID.
func acrobitsOpaque(s *scenario, m *mediator) {
	s.nextUser()
	s.reported200("/acrobits/token")
	c := s.calls()
	push := m.to(s.t, selectorOf(s), "NotifyIncomingCall")
	if push["Id"] == c.CallID() || push["Id"] == "" || push["UserName"] != "" || push["UserDisplayName"] != "" {
		s.t.Errorf("%q", push)
	}
	p := s.phone(answers)
	if got := wokenBy(s, p).Headers("X-Push-ID"); len(got) != 1 || got[0] != push["Id"] {
		s.t.Errorf("X-Push-ID %q, want %q", got, push["Id"])
	}
	c.talks(p)
	c.over("answered")
}

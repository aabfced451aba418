package tests

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
	proxynode "github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/upper"
	kamailionode "github.com/sipwake/sipwake/kamailio"
)

// upperScenario returns one user of a gateway whose PBX grants four seconds, and whose
// registration there sipwake keeps alive.
func upperScenario(t *testing.T, lines string, defines ...string) (*scenario, *gatewayProxy) {
	t.Helper()
	return upperScenarioIn(t, "", lines, defines...)
}

// upperScenarioIn has another store than the embedded one.
func upperScenarioIn(t *testing.T, store, lines string, defines ...string) (*scenario, *gatewayProxy) {
	t.Helper()
	return gatewayScenario(t, rigOptions{store: store, more: upperSection(t, lines)}, append([]string{"GW_EXPIRES=4"}, defines...)...)
}

// upperSection returns the section upper with a key, and lines.
func upperSection(t *testing.T, lines string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "upper.key")
	if err := os.WriteFile(file, []byte(strings.Repeat("5e", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	leak.Secret(strings.Repeat("5e", 32))
	return "upper:\n  key_file: " + file + "\n" + lines
}

// withHA1 returns an app that gives its HA1.
func withHA1(user string) option { return ha1Of(user, passwordOf(user)) }

func ha1Of(user, password string) option { return header("X-PIID", ha1(user, password)) }

func ha1(user, password string) string {
	text := fmt.Sprintf("%x", md5.Sum([]byte(user+":pbx.example:"+password)))
	leak.Secret(text)
	return text
}

// upperState is what upper.list says of the user.
type upperState struct {
	State, Why, Server, Node string
	LastOK                   time.Time `json:"last_ok_at"`
	Due                      time.Time `json:"due_at"`
	Granted                  int       `json:"granted_s"`
}

func (s *scenario) upper() (u upperState, ok bool) {
	s.t.Helper()
	var res struct{ Registrations []upperState }
	s.call("upper.list", obj{"aor": s.aor()}, &res)
	if len(res.Registrations) == 0 {
		return u, false
	}
	return res.Registrations[0], true
}

// refreshed waits until the registration was refreshed after then.
func (s *scenario) refreshed(then time.Time) {
	s.t.Helper()
	eventually(s.t, "the registration is refreshed", func() bool {
		u, ok := s.upper()
		return ok && u.State == "ok" && u.LastOK.After(then)
	})
}

// TestGatewayKeepsAlive: the registration at the PBX outlives what the PBX granted, by
// the HA1 of the app, and a PBX that has lost it gets it again. The HA1 is nowhere to be
// found.
func TestGatewayKeepsAlive(t *testing.T) {
	t.Parallel()
	s, g := upperScenario(t, "")
	d := s.iphone(answers, withHA1(s.user))
	s.asleep(d)
	u, ok := s.upper()
	if !ok || u.State != "ok" || u.Granted != 4 || !strings.Contains(u.Server, g.pbx.SIPAddress()) {
		t.Fatalf("registration: %+v", u)
	}
	uri, _ := g.theContact(s)
	s.refreshed(u.LastOK)
	s.refreshed(u.LastOK.Add(4 * time.Second))
	if again, _ := g.theContact(s); again != uri {
		t.Errorf("the PBX had %s and has %s", uri, again)
	}
	s.calls().talks(d.Phone)
	d.Sleep()

	g.restartPBX(s)
	s.refreshed(time.Now())
	s.calls().talks(d.Phone)

	file, err := os.ReadFile(filepath.Join(s.dir, "bindings.db"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, []byte(ha1(s.user, passwordOf(s.user)))) {
		t.Error("the store has the HA1 as it is")
	}
	if code, text := s.get("/metrics"); code != 200 || !strings.Contains(text, `sipwake_upper_refreshes_total{result="ok"}`) {
		t.Error("no metric")
	}
}

// TestGatewaySecretsFile: the administrator's list does for apps that give no HA1.
func TestGatewaySecretsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ha1")
	if err := os.WriteFile(file, []byte("# of the PBX\nUser1@"+domain+" "+ha1("user1", passwordOf("user1"))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := upperScenario(t, "  secrets_file: "+file+"\n")
	d := s.iphone(answers)
	s.asleep(d)
	s.refreshed(time.Now())
	s.calls().talks(d.Phone)
	s.nextUser()
	s.asleep(s.iphone())
	if u, ok := s.upper(); ok {
		t.Errorf("a user who is not in the list: %+v", u)
	}
}

// TestGatewayKeepsNothingWithout: an app without an HA1 refreshes by itself.
func TestGatewayKeepsNothingWithout(t *testing.T) {
	t.Parallel()
	s, _ := upperScenario(t, "")
	s.asleep(s.iphone())
	s.asleep(s.iphone(header("X-PIID", "0123456789abcdef0123456789abcd")))
	if u, ok := s.upper(); ok {
		t.Errorf("registration: %+v", u)
	}
}

// TestGatewayUpperEnds: it ends at the PBX with the last binding, or by an operator's word.
func TestGatewayUpperEnds(t *testing.T) {
	t.Parallel()
	f := func(method string) {
		t.Helper()
		s, g := upperScenario(t, "")
		s.asleep(s.iphone(withHA1(s.user)))
		s.call(method, obj{"aor": s.aor()}, nil)
		eventually(t, "it is gone", func() bool {
			_, ok := s.upper()
			return !ok && len(g.atPBX(s, s.user)) == 0
		})
		if n := s.bindings(s.aor()); n != 0 {
			t.Errorf("%s: %d bindings are left", method, n)
		}
	}
	f("binding.remove")
	f("upper.remove")
}

// TestGatewayRefusesServers: with the node's secret one can send REGISTERs only to a PBX of
// the list.
func TestGatewayRefusesServers(t *testing.T) {
	t.Parallel()
	s, g := gatewayScenario(t, rigOptions{})
	n := must(kamailionode.New(nodeID, proxynode.Config{URL: g.SignalURL(), Secret: secret.NewText(nodeSecret), Timeout: 10 * time.Second, Connections: 1},
		nil, slog.New(slog.DiscardHandler)))(s)
	defer n.Close()
	r := upper.Request{Key: "r1-4", AOR: s.aor(), URI: "sip:" + domain, To: "sip:" + s.aor(), CallID: "upper", CSeq: 4, Expires: 60}
	for _, server := range []string{"sip:127.0.0.1:5060", "sip:192.0.2.1", "sips:192.0.2.1", "", "http://" + pbxAddress} {
		r.Server = server
		if err := n.RegisterUpper(s.ctx, r); !errors.Is(err, upper.ErrRefused) {
			t.Errorf("%q: %v", server, err)
		}
	}
	r.Server = "sip:" + g.pbx.SIPAddress()
	if err := n.RegisterUpper(s.ctx, r); err != nil {
		t.Error(err)
	}
}

package tests

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/apnssim"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/leak"
)

// newPBX starts the sipwake of a PBX that has no credential: it pushes through the
// maker's, at url, with the token.
func newPBX(t *testing.T, url, token, policy string) *rig {
	t.Helper()
	leak.Secret(token)
	r := &rig{t: t, dir: t.TempDir(), logs: &lockedBuffer{}, said: newSaid(t), node: newNode(t)}
	file := r.write("relay.token", token)
	var relays strings.Builder
	for provider, packages := range map[string]string{"apns": bundle, "fcm": project} {
		fmt.Fprintf(&relays, "  - provider: %s\n    packages: [%s]\n    url: %s\n    token_file: %s\n    timeout: 15s\n    call_timeout: 15s\n    policy: {%s}\n",
			provider, packages, url, file, policy)
	}
	r.file = r.write("sipwake.yml", fmt.Sprintf(`
rpc: {listen: 127.0.0.1:0}
operations: {listen: 127.0.0.1:0}
log: {level: debug}
store: {type: local, local: {path: %s}}
wake: {recent: 50ms}
nodes:
  - {id: %s, url: %s, secret_file: %s}
relays:
%s`, filepath.Join(r.dir, "bindings.db"), nodeID, r.node.url(), r.write("node.secret", nodeSecret), relays.String()))
	r.start()
	return r
}

const makerToken = "c4e1-token-of-the-operator"

func newMaker(t *testing.T) *rig {
	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, makerToken) + "]"})
	r.auth = makerToken
	return r
}

// A PBX's sipwake without any credential rings phones of both platforms through the
// maker's, whose templates the pushes have; a dead token ends the binding at the PBX.
func TestRelay(t *testing.T) {
	maker := newMaker(t)
	pbx := newPBX(t, maker.url, makerToken, "")
	pbx.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	pbx.asleep("bob@example.com", fcmContact("bob", "fcm-token-relay-1"))
	pbx.startWake("bob@example.com", "1-1", obj{"headers": obj{"X-Account": "4711"}})
	maker.pushed(apnsToken(1), 1)
	eventually(t, "the FCM push", func() bool { return maker.fcmPushes("fcm-token-relay-1") == 1 })
	p := maker.apns.Pushes()[0]
	for _, want := range []string{`"nfrom":"alice"`, `"display":"Alice"`, `"ncallid":"call-1-1"`} {
		if !strings.Contains(string(p.Payload), want) || p.PushType != "voip" {
			t.Errorf("no %s in %s", want, p.Payload)
		}
	}
	// The phone comes back, and the PBX's proxy hears of it.
	pbx.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"cseq": 2})
	pbx.node.waitFor(t, "wake", "1-1")

	pbx.asleep("carol@example.com", apnsContact("carol", apnsToken(5)))
	maker.apns.Behave(apnsToken(5), apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)})
	pbx.startWake("carol@example.com", "2-2", nil)
	eventually(t, "the dead token's binding is gone", func() bool { return pbx.bindings("carol@example.com") == 0 })
	if n := maker.bindings("bob@example.com"); n != 0 {
		t.Errorf("the maker has stored %d bindings", n)
	}
	if _, text := maker.get("/metrics"); !strings.Contains(text, `sipwake_relay_pushes_total{reason="token_dead",tenant="operator"}`) {
		t.Error("the maker's figures lack the dead token")
	}
}

// With policy.privacy full nothing of the call leaves the PBX but an opaque ID.
func TestRelayOpaque(t *testing.T) {
	maker := newMaker(t)
	pbx := newPBX(t, maker.url, makerToken, "privacy: full")
	pbx.asleep("bob@example.com", apnsContact("bob", apnsToken(2)))
	pbx.startWake("bob@example.com", "1-1", nil)
	maker.pushed(apnsToken(2), 1)
	payload := string(maker.apns.Pushes()[0].Payload)
	for _, told := range []string{"alice", "Alice", "bob", "call-1-1", "example.com"} {
		if strings.Contains(payload, told) || strings.Contains(maker.logs.String(), `"`+told+`"`) {
			t.Errorf("%q is in %s", told, payload)
		}
	}
	if !strings.Contains(payload, `"callUUID":"`) {
		t.Errorf("no ID in %s", payload)
	}
}

// An answer that is lost is asked for again, and the phone is pushed once.
func TestRelayAnswerLost(t *testing.T) {
	maker := newMaker(t)
	target, err := url.Parse(maker.url)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	var asked atomic.Int32
	forward := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			forward.ServeHTTP(w, r)
			return
		}
		forward.ServeHTTP(httptest.NewRecorder(), r) // and its answer is lost
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}))
	t.Cleanup(front.Close)
	pbx := newPBX(t, front.URL+"/rpc", makerToken, "")
	pbx.asleep("bob@example.com", apnsContact("bob", apnsToken(3)))
	pbx.startWake("bob@example.com", "1-1", nil)
	eventually(t, "another try", func() bool { return asked.Load() >= 2 })
	eventually(t, "the push is accepted", func() bool {
		_, text := pbx.get("/metrics")
		return strings.Contains(text, `reason="accepted"} 1`)
	})
	if n := maker.pushes(apnsToken(3)); n != 1 {
		t.Errorf("%d pushes, want 1", n)
	}
}

// A token that is not the maker's any more is the app's credential: it stops pushes and
// not bindings.
func TestRelayRefused(t *testing.T) {
	maker := newMaker(t)
	pbx := newPBX(t, maker.url, "0000-another-token", "")
	pbx.asleep("bob@example.com", apnsContact("bob", apnsToken(4)))
	if res := pbx.startWake("bob@example.com", "1-1", nil); res.Outcome == "" {
		t.Fatal("no outcome")
	}
	eventually(t, "the refusal is counted", func() bool {
		_, text := pbx.get("/metrics")
		return strings.Contains(text, `reason="credential"} 1`)
	})
	if n := pbx.bindings("bob@example.com"); n != 1 {
		t.Errorf("%d bindings", n)
	}
	if n := maker.pushes(apnsToken(4)); n != 0 {
		t.Errorf("%d pushes", n)
	}
}

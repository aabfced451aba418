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

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/leak"
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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

const (
	pbxToken   = "1f20-token-of-the-pbx-a"
	otherToken = "2e31-token-of-the-pbx-b"
)

// Two PBXs push through one maker: neither pushes apps that are not its own, reads what
// the other has sent, or answers for it, and each has its own figures.
func TestRelayTenants(t *testing.T) {
	t.Parallel()
	maker := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, makerToken) + "]\n  tenants:\n" +
		"    - {name: pbx-a, apps: [" + bundle + "], rate_limit: 100, token_files: [" + writeTemp(t, pbxToken) + "]}\n" +
		"    - {name: pbx-b, apps: [" + bundle + ", " + project + "], rate_limit: 100, token_files: [" + writeTemp(t, otherToken) + "]}"})
	maker.auth = makerToken
	a, b := newPBX(t, maker.url, pbxToken, ""), newPBX(t, maker.url, otherToken, "")
	a.asleep("ann@example.com", apnsContact("ann", apnsToken(21)))
	b.asleep("bob@example.com", apnsContact("bob", apnsToken(22)))
	a.startWake("ann@example.com", "1-1", nil)
	b.startWake("bob@example.com", "1-1", nil)
	maker.pushed(apnsToken(21), 1)
	maker.pushed(apnsToken(22), 1)

	// The same ID from a and b means two pushes: a's push is sent, and b's is unchanged.
	relay := func(token, app, to, id string) string {
		provider := "apns"
		if app == project {
			provider = "fcm"
		}
		return maker.as(token, "push.relay", obj{"id": id, "kind": "custom", "provider": provider, "app": app, "service": map[string]string{"apns": "remote"}[provider],
			"token": to, "values": obj{"title": "x"}})
	}
	for range 3 {
		if got := relay(otherToken, bundle, apnsToken(23), "same"); !strings.Contains(got, `"accepted"`) {
			t.Fatal(got)
		}
		if got := relay(pbxToken, bundle, apnsToken(24), "same"); !strings.Contains(got, `"accepted"`) {
			t.Fatal(got)
		}
	}
	if x, y := maker.pushes(apnsToken(23)), maker.pushes(apnsToken(24)); x != 1 || y != 1 {
		t.Errorf("%d and %d pushes, want one each", x, y)
	}
	if got := relay(pbxToken, project, "fcm-token-relay-9", "2"); !strings.Contains(got, "is none of this tenant's") {
		t.Errorf("an app of b's: %s", got)
	}
	if got := relay(otherToken, project, "fcm-token-relay-9", "2"); !strings.Contains(got, `"accepted"`) {
		t.Errorf("its own app: %s", got)
	}
	for _, method := range []string{"binding.list", "push.list", "service.stats", "wake.trace"} {
		if got := maker.as(pbxToken, method, obj{"all": true}); strings.Contains(got, apnsToken(22)) || strings.Contains(got, "pbx-b") || strings.Contains(got, "bob@") {
			t.Errorf("%s tells a of b: %s", method, got)
		}
	}
	_, text := maker.get("/metrics")
	for _, want := range []string{`{reason="accepted",tenant="pbx-a"} 2`, `{reason="accepted",tenant="pbx-b"} 3`} {
		if !strings.Contains(text, "sipwake_relay_pushes_total"+want+"\n") {
			t.Errorf("the figures lack %s", want)
		}
	}
}

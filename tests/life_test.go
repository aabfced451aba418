package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

// twoTokens returns the Contact of an iPhone with a voip and a remote token, as
// Linphone sends it.
func twoTokens(user, voip, remote string) string {
	return fmt.Sprintf("<sip:%s@192.0.2.7:5070;pn-provider=apns;pn-param=%s.%s.remote&voip;pn-prid=%s:remote&%s:voip>",
		user, team, bundle, remote, voip)
}

// R6: what an un-REGISTER does to the binding is the app's policy.
func TestFeatureR6UnregisterModes(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]struct {
		status   string
		bindings int
	}{"keep": {"refreshed", 1}, "remove": {"removed", 0}, "ignore": {"none", 1}} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t, rigOptions{apnsConfig: "    policy: {unregister: " + mode + "}"})
			r.register("bob@example.com", apnsContact("bob", apnsToken(1)), nil)
			res := r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"cseq": 2, "expires": 0})
			if n := r.bindings("bob@example.com"); n != want.bindings || res.Status != want.status {
				t.Errorf("status %q, %d bindings; want %+v", res.Status, n, want)
			}
		})
	}
}

// RFC 3261 section 10.2.2: Contact "*" with expires 0 ends all registrations, and the
// next call is pushed at once.
func TestUnregisterAll(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{recent: time.Minute})
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), nil)
	r.register("bob@example.com", "<sip:bob@192.0.2.9>", obj{"call_id": "a phone without push"})
	r.register("bob@example.com", "*", obj{"cseq": 2, "expires": 0})
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "pushing" {
		t.Errorf("wake.start: %+v", res)
	}
}

// R5: a REGISTER without push data unbinds, if configured.
func TestFeatureR5UnbindWithoutPush(t *testing.T) {
	t.Parallel()
	for on, left := range map[bool]int{false: 1, true: 0} {
		r := newRig(t, rigOptions{wake: fmt.Sprintf("  unbind_without_push: %v", on)})
		r.register("bob@example.com", apnsContact("bob", apnsToken(1)), nil)
		r.register("bob@example.com", "<sip:bob@192.0.2.99>", obj{"call_id": "another phone"})
		if n := r.bindings("bob@example.com"); n != 1 {
			t.Fatalf("another phone's REGISTER leaves %d bindings", n)
		}
		r.register("bob@example.com", "<sip:bob@192.0.2.7:5070>", obj{"cseq": 2})
		if n := r.bindings("bob@example.com"); n != left {
			t.Errorf("unbind_without_push: %v: %d bindings, want %d", on, n, left)
		}
	}
}

// R9: a client that did not register for the retention time gets no more pushes.
func TestFeatureR9Retention(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newRig(t, rigOptions{store: "  local: {path: " + dir + "/b.db, retention: 1s}"})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	eventually(t, "retention", func() bool { return r.bindings("bob@example.com") == 0 })
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "none" {
		t.Errorf("wake.start: %+v", res)
	}
}

// C4: each removal rule, and that it counts in a row only.
func TestFeatureC4RemovalRules(t *testing.T) {
	t.Parallel()
	bad := apnssim.Behaviour{Status: 400, Reason: "BadDeviceToken"}
	down := apnssim.Behaviour{Status: 500, Reason: "InternalServerError"}
	call := func(r *rig, n int) string {
		c := fmt.Sprint(n, "-0")
		r.startWake("bob@example.com", c, nil)
		return c
	}
	failedCall := func(r *rig, n int) {
		c := call(r, n)
		r.node.waitFor(r.t, "give_up", c)
		r.endWake("bob@example.com", c, "timeout")
	}
	for _, c := range []struct {
		rule string
		fail func(r *rig, n int) // the n-th failure
	}{
		{"rejected", func(r *rig, n int) {
			r.apns.Behave(apnsToken(1), bad)
			failedCall(r, n)
		}},
		{"failed", func(r *rig, n int) {
			r.apns.Behave(apnsToken(1), down)
			failedCall(r, n)
		}},
		{"no_answer", func(r *rig, n int) {
			c := call(r, n)
			r.pushed(apnsToken(1), n)
			eventually(r.t, "accepted", func() bool { return strings.Count(r.trace("bob@example.com"), "accepted") == n })
			r.endWake("bob@example.com", c, "timeout")
		}},
		{"call_failed", func(r *rig, n int) {
			c := call(r, n)
			r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "back", "cseq": 2 * n})
			eventually(r.t, "signalled", func() bool { return strings.Count(r.trace("bob@example.com"), "signalled") >= n })
			r.endWake("bob@example.com", c, "failed")
			r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "back", "cseq": 2*n + 1, "expires": 0})
		}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r := newRig(t, rigOptions{wake: "  remove: {" + c.rule + ": 2}"})
			r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
			c.fail(r, 1)
			if n := r.bindings("bob@example.com"); n != 1 {
				t.Fatal("the first failure removed the binding")
			}
			c.fail(r, 2)
			eventually(t, "the binding removed", func() bool { return r.bindings("bob@example.com") == 0 })
		})
	}
}

// P13: a device is woken before its registration ends, once, also after a
// restart, and its binding goes if it does not answer and that is configured.
func TestFeatureP13Refresh(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{wake: "  min_expires: 1s\n  refresh: {enabled: true, before: 120s, spread: 1s, every: 20ms}\n  remove: {refresh_unanswered: 1}"})
	r.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"expires": 3})
	r.register("carol@example.com", fcmContact("carol", "fcm-token-carol"), obj{"expires": 3600})
	r.register("dave@example.com", fcmContact("dave", "fcm-token-dave-1"), obj{"expires": 122}) // due in a second or two, but for what follows
	r.register("dave@example.com", fcmContact("dave", "fcm-token-dave-1"), obj{"expires": 0, "cseq": 2})
	refreshes := func(token string) (n int) {
		for _, p := range r.fcm.Pushes() {
			if p.Token.Reveal() == token && p.Message.Data["ntype"] == "4" {
				n++
			}
		}
		return n
	}
	eventually(t, "refresh push", func() bool { return refreshes("fcm-token-bob-1") == 1 })
	stop(t, r.app)
	r.start()
	eventually(t, "unanswered: the binding removed", func() bool { return r.bindings("bob@example.com") == 0 })
	if a, b, c := refreshes("fcm-token-bob-1"), refreshes("fcm-token-carol"), refreshes("fcm-token-dave-1"); a != 1 || b != 0 || c != 0 {
		t.Errorf("refresh pushes: bob %d, carol (not due) %d, dave (signed off) %d", a, b, c)
	}
	if n := r.bindings("dave@example.com") + r.bindings("carol@example.com"); n != 2 {
		t.Errorf("%d bindings of those who owe nothing", n)
	}
}

// P3: a device that is being rung is pushed only if it does not answer soon.
func TestFeatureP3LiveDevices(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{wake: "  push_delay: 300ms"})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "live"})
	r.register("bob@example.com", fcmContact("bob", "fcm-token-bob-1"), obj{"call_id": "live", "cseq": 2, "expires": 0})
	fcmPushes := func() int { return len(r.fcm.Pushes()) }

	// One rings and answers, the other sleeps.
	if res := r.startWake("bob@example.com", "1-1", obj{"live": []string{"live"}}); res.Outcome != "pushing" || res.Devices != 2 {
		t.Fatalf("wake.start: %+v", res)
	}
	if !r.progress("bob@example.com", "1-1", "live") {
		t.Error("no push was withheld")
	}
	r.pushed(apnsToken(1), 1)
	r.endWake("bob@example.com", "1-1", "answered")

	// It is named by its Contact, and the call ends before it must be pushed.
	contact := strings.Trim(fcmContact("bob", "fcm-token-bob-1"), "<>")
	r.startWake("bob@example.com", "2-2", obj{"live": []string{contact}})
	r.endWake("bob@example.com", "2-2", "answered")
	if r.progress("bob@example.com", "2-2", contact) {
		t.Error("a push was withheld for a call that is over")
	}

	// The connection only looks alive.
	before := fcmPushes()
	r.startWake("bob@example.com", "3-3", obj{"live": []string{"live"}})
	eventually(t, "push to the phone that says nothing", func() bool { return fcmPushes() == before+1 })
	if before != 0 {
		t.Errorf("%d pushes to a phone that answered", before)
	}
	if r.progress("bob@example.com", "3-3", "live") {
		t.Error("withheld after it was sent")
	}
}

func (r *rig) progress(aor, call, contact string) (withheld bool) {
	r.t.Helper()
	var res struct{ Withheld bool }
	r.call("wake.progress", obj{"node": nodeID, "aor": aor, "call_id": "call-" + call, "call": call, "contact": contact, "code": 180}, &res)
	return res.Withheld
}

// P2: when each kind is sent.
func TestFeatureP2When(t *testing.T) {
	t.Parallel()
	t.Run("never", func(t *testing.T) {
		r := newRig(t, rigOptions{apnsConfig: "    policy: {when: {call: never}}"})
		r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
		if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "none" || res.HoldS != 0 {
			t.Errorf("wake.start: %+v", res)
		}
		if !strings.Contains(r.trace("bob@example.com"), "denied") {
			t.Error("the trace does not say why")
		}
	})
	t.Run("chat", func(t *testing.T) {
		for rule, pushed := range map[string]bool{"no_answer": false, "always": true} {
			r := newRig(t, rigOptions{fcmConfig: "    policy: {chat: " + rule + "}", wake: "  push_delay: 10s"})
			r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
			res := r.startWake("bob@example.com", "1-1", obj{"kind": "chat", "body": "hi", "live": []string{"a desk phone"}})
			if got := res.Outcome == "pushing"; got != pushed {
				t.Errorf("chat: %s: %+v", rule, res)
			}
		}
	})
}

// C3: the phones that were woken learn that the call is over, but never by a voip
// push.
func TestFeatureC3Cancel(t *testing.T) {
	t.Parallel()
	cases := []struct {
		rule, reason string
		want         bool
	}{
		{"unanswered", "cancelled", true}, {"unanswered", "timeout", true}, {"unanswered", "answered", false},
		{"pushed", "answered", true}, {"never", "cancelled", false}, {"always", "answered", true},
	}
	// What is not set: an Android phone shows the call by itself, and so is told.
	t.Run("default answered", func(t *testing.T) {
		r := newRig(t, rigOptions{})
		r.asleep("bob@example.com", twoTokens("bob", apnsToken(1), apnsToken(2)))
		r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
		r.startWake("bob@example.com", "1-1", nil)
		eventually(t, "both accepted", func() bool { return strings.Count(r.trace("bob@example.com"), "accepted") == 2 })
		r.endWake("bob@example.com", "1-1", "answered")
		eventually(t, "cancel through FCM", func() bool { return r.fcmKinds("2") == 1 })
		stop(t, r.app)
		if n := r.pushes(apnsToken(2)); n != 0 {
			t.Errorf("%d cancel pushes through APNs", n)
		}
		r.start()
	})
	for _, c := range cases {
		t.Run(c.rule+" "+c.reason, func(t *testing.T) {
			policy := "    policy: {cancel: " + c.rule + "}"
			r := newRig(t, rigOptions{apnsConfig: policy, fcmConfig: policy})
			r.asleep("bob@example.com", twoTokens("bob", apnsToken(1), apnsToken(2)))
			r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
			r.startWake("bob@example.com", "1-1", nil)
			eventually(t, "both accepted", func() bool { return strings.Count(r.trace("bob@example.com"), "accepted") == 2 })
			r.endWake("bob@example.com", "1-1", c.reason)
			if c.want {
				eventually(t, "cancel to the remote token", func() bool { return r.pushes(apnsToken(2)) == 1 })
				eventually(t, "cancel through FCM", func() bool { return r.fcmKinds("2") == 1 })
			}
			stop(t, r.app) // what is queued goes out
			want := 0
			if c.want {
				want = 1
			}
			if a, b, f := r.pushes(apnsToken(1)), r.pushes(apnsToken(2)), r.fcmKinds("2"); a != 1 || b != want || f != want {
				t.Errorf("voip %d, remote %d, FCM cancel %d; want 1, %d, %d", a, b, f, want, want)
			}
			for _, p := range r.apns.Pushes() {
				if p.Status != 200 {
					t.Errorf("APNs refused: %+v", p)
				}
			}
			r.start()
		})
	}
}

// A call may end while its push is on its way. The phone still wakes, and must learn that
// the call is over.
func TestFeatureC3CancelOvertakesPush(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.fcm.Behave("fcm-token-bob-1", fcmsim.Behaviour{Delay: time.Second}, fcmsim.Behaviour{})
	r.startWake("bob@example.com", "1-1", nil)
	eventually(t, "the push is under way", func() bool {
		sends, _ := r.fcm.Requests()
		return sends > 0
	})
	r.endWake("bob@example.com", "1-1", "cancelled")
	eventually(t, "cancel", func() bool { return r.fcmKinds("2") == 1 })
}

func (r *rig) fcmKinds(ntype string) (n int) {
	for _, p := range r.fcm.Pushes() {
		if p.Message != nil && p.Message.Data["ntype"] == ntype {
			n++
		}
	}
	return n
}

// C3: a missed call is shown, if the app wants it.
func TestFeatureC3MissedCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{apnsConfig: "    policy: {missed_call: true, cancel: never}"})
	r.asleep("bob@example.com", twoTokens("bob", apnsToken(1), apnsToken(2)))
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(1), 1)
	r.endWake("bob@example.com", "1-1", "cancelled")
	r.pushed(apnsToken(2), 1)
	for _, p := range r.apns.Pushes() {
		if p.Token.Reveal() == apnsToken(2) && (p.PushType != "alert" || !strings.Contains(string(p.Payload), "Missed call")) {
			t.Errorf("missed call: %s %s", p.PushType, p.Payload)
		}
	}
}

// P11, P12: push.send is stored until the provider accepted or refused it, its
// state can be looked up, and it survives a restart.
func TestFeatureP12Outbox(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{fcmConfig: "    breaker_failures: 1000"})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-2"))
	r.fcm.Behave("fcm-token-bob-1", fcmsim.Unregistered())
	id := r.send(obj{"aor": "bob@example.com", "kind": "custom", "title": "t", "body": "b"})
	eventually(t, "one sent, one failed", func() bool { return r.states(id) == "[failed token_dead sent accepted]" })
	if n := r.bindings("bob@example.com"); n != 1 {
		t.Errorf("%d bindings left of a dead and a good one", n)
	}

	r.fcm.Behave("fcm-token-bob-2", fcmsim.Behaviour{Status: 503, Code: "UNAVAILABLE"})
	id = r.send(obj{"aor": "bob@example.com", "kind": "chat", "body": "hello"})
	eventually(t, "a first try", func() bool { return r.fcmKinds("1") > 0 })
	stop(t, r.app)
	r.fcm.Behave("fcm-token-bob-2")
	r.start()
	if s := r.states(id); !strings.HasPrefix(s, "[queued") {
		t.Errorf("after the restart: %s", s)
	}
	var res struct{ Devices []struct{ State string } }
	if e := r.try("push.status", obj{"id": "no-such-id"}, &res); e == nil || e.Data.Field != "id" {
		t.Errorf("unknown id: %+v", e)
	}
	r.eventuallyLong("delivered after the restart", func() bool { return r.states(id) == "[sent accepted]" })
}

// eventuallyLong waits for what takes a pause between tries.
func (r *rig) eventuallyLong(what string, cond func() bool) {
	r.t.Helper()
	for end := time.Now().Add(90 * time.Second); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never: %s", what)
		}
	}
}

func (r *rig) send(p obj) (id string) {
	r.t.Helper()
	var res struct{ ID string }
	r.call("push.send", p, &res)
	return res.ID
}

// states returns the state and reason of each device of a message.
func (r *rig) states(id string) string {
	r.t.Helper()
	var res struct {
		Devices []struct{ State, Reason string }
	}
	r.call("push.status", obj{"id": id}, &res)
	var s []string
	for _, d := range res.Devices {
		s = append(s, d.State, d.Reason)
	}
	return fmt.Sprint(s)
}

// RFC 8599 section 5.3, 5.5: too short an expiry, and clients that cannot refresh
// by themselves.
func TestFeatureR2ExpiryAndRefresh(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{wake: "  min_expires: 300s\n  refresh: {enabled: true, before: 150s}"})
	res := r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"expires": 60})
	if res.Code != 423 || res.MinExpires != 300 || r.bindings("bob@example.com") != 0 {
		t.Errorf("60 s: %+v", res)
	}
	res = r.register("bob@example.com", apnsContact("bob", apnsToken(1))+";+sip.pnsreg", obj{"cseq": 2})
	if res.Code != 200 || fmt.Sprint(res.FeatureCaps) != `[*;+sip.pns="apns";+sip.pnsreg="150"]` {
		t.Errorf("+sip.pnsreg: %+v", res)
	}
}

// O1: a template is taken by a reload.
func TestFeatureO1TemplateReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := dir + "/call.json"
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"aps":{},"version":"one","who":"{FROMDISPLAYNAME}"}`)
	r := newRig(t, rigOptions{apnsConfig: "    templates: {call: " + file + "}"})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(1), 1)
	write(`{"aps":{},"version":"two"}`)
	r.reload()
	r.startWake("bob@example.com", "2-2", nil)
	r.pushed(apnsToken(1), 2)
	p := r.apns.Pushes()
	if !strings.Contains(string(p[0].Payload), `"one"`) || !strings.Contains(string(p[1].Payload), `"two"`) {
		t.Errorf("payloads: %s, %s", p[0].Payload, p[1].Payload)
	}
}

// A phone without +sip.instance whose app goes from Firebase's registration tokens to
// installation IDs has one binding, and so does one that gets a new token.
func TestFirebaseInstallationID(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	const id = "cF2g7hJ_kLm-nOpQrStUvW"
	first, second := id+"%3AAPA91bFirst000000", id+"%3AAPA91bSecond00000"
	for i, token := range []string{first, second, id} {
		r.register("bob@example.com", fcmContact("bob", token), obj{"call_id": fmt.Sprint("reg-", i)})
		if n := r.bindings("bob@example.com"); n != 1 {
			t.Errorf("after token %d: %d bindings", i+1, n)
		}
	}
	r.register("bob@example.com", fcmContact("bob", "dF2g7hJ_kLm-nOpQrStUvW"), obj{"call_id": "tablet"})
	if n := r.bindings("bob@example.com"); n != 2 {
		t.Errorf("with another phone: %d bindings", n)
	}
	r.startWake("bob@example.com", "1", nil)
	eventually(t, "the pushes", func() bool { return r.fcmPushes(id) == 1 && r.fcmPushes("dF2g7hJ_kLm-nOpQrStUvW") == 1 })
	if accepted, _ := r.fcm.Counts(); accepted != 2 {
		t.Errorf("%d pushes", accepted)
	}
}

// An iPhone gets no more background pushes in an hour than iOS delivers. Calls do not count,
// and the limit is for each phone.
func TestBackgroundPushesPerHour(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{wake: noLimits, apnsConfig: "    background_per_hour: 2\n    policy: {cancel: always}"})
	cancels := func(token string) (n int) {
		for _, p := range r.apns.Pushes() {
			if p.Token.Reveal() == token && p.PushType == "background" {
				n++
			}
		}
		return n
	}
	r.asleep("bob@example.com", twoTokens("bob", apnsToken(1), apnsToken(2)))
	r.asleep("carol@example.com", twoTokens("carol", apnsToken(3), apnsToken(4)))
	for i := range 4 {
		call := fmt.Sprint(i, "-1")
		r.startWake("bob@example.com", call, nil)
		r.pushed(apnsToken(1), i+1)
		r.endWake("bob@example.com", call, "cancelled")
		if i < 2 {
			eventually(t, "the cancel push", func() bool { return cancels(apnsToken(2)) == i+1 })
		}
	}
	eventually(t, "the others are counted", func() bool {
		return r.metric(`sipwake_push_total{app="org.example.phone",kind="cancel",provider="apns",reason="policy"}`)
	})
	r.startWake("carol@example.com", "c-1", nil)
	r.pushed(apnsToken(3), 1)
	r.endWake("carol@example.com", "c-1", "cancelled")
	eventually(t, "another phone's cancel push", func() bool { return cancels(apnsToken(4)) == 1 })
	if n := cancels(apnsToken(2)); n != 2 {
		t.Errorf("%d background pushes", n)
	}
}

package tests

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

// Invariant 1: wake.start and binding.register that race each other always meet.
func TestInvariant1NoLostWake(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{recent: 5 * time.Second, wake: "  limits: {caller: 0}"})
	const rounds = 300
	for i := range rounds { // somebody sleeps, so the request is held
		r.asleep(fmt.Sprintf("u%d@example.com", i), fcmContact("u", fmt.Sprintf("fcm-token-%d", i)))
	}
	var wg sync.WaitGroup
	for i := range rounds {
		aor, call := fmt.Sprintf("u%d@example.com", i), fmt.Sprintf("c%d", i)
		wg.Go(func() { r.startWake(aor, call, nil) })
		wg.Go(func() { r.register(aor, apnsContact("u", apnsToken(i+1)), nil) })
		if i%20 == 19 {
			wg.Wait()
		}
	}
	wg.Wait()
	for i := range rounds {
		r.node.waitFor(t, "wake", fmt.Sprintf("c%d", i))
	}
}

// Invariant 1: a register that arrives just before its wake.start still wakes it.
func TestInvariant1RegisterBeforeStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{recent: 5 * time.Second})
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"cseq": 7})
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "awake" || res.HoldS != 30 {
		t.Fatalf("wake.start: %+v", res)
	}
	s := r.node.waitFor(t, "wake", "1-1")
	if s.Params.CSeq != 7 || s.Params.CallID != "reg-bob@example.com" || s.Params.Source != "udp:127.0.0.1:5070" {
		t.Errorf("signal names another registration: %+v", s.Params)
	}
}

// Invariant 1: a wake.end that overtakes its wake.start leaves a tombstone.
func TestInvariant1EndBeforeStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	if r.endWake("bob@example.com", "1-1", "cancelled") {
		t.Fatal("a wake that never started was pending")
	}
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "none" || res.HoldS != 0 {
		t.Fatalf("wake.start after wake.end: %+v", res)
	}
	r.startWake("bob@example.com", "2-2", nil)
	r.pushed(apnsToken(1), 1) // that of the second call
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"cseq": 3})
	r.node.waitFor(t, "wake", "2-2")
	if len(r.node.seen("wake", "1-1")) != 0 {
		t.Error("the node was signalled for a call that is over")
	}
}

// Invariant 1: an older CSeq of the same Call-ID never overwrites a newer one.
func TestInvariant1OlderCSeqIsStale(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	old := strings.Replace(apnsContact("bob", apnsToken(1)), ":5070", ":5071", 1)
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"cseq": 5})
	if res := r.register("bob@example.com", old, obj{"cseq": 4}); res.Status != "stale" {
		t.Fatalf("an older CSeq is %q", res.Status)
	}
	r.register("bob@example.com", old, obj{"cseq": 3, "expires": 0})
	if n := r.bindings("bob@example.com"); n != 1 {
		t.Errorf("%d bindings after a stale un-REGISTER", n)
	}
}

// asleep registers a device and ends its registration, so that it does not count
// as awake.
func (r *rig) asleep(aor, contact string) {
	r.t.Helper()
	id := "sleep-" + contact[:12]
	if res := r.register(aor, contact, obj{"call_id": id, "cseq": 1}); res.Status != "stored" {
		r.t.Fatalf("binding.register: %+v", res)
	}
	r.register(aor, contact, obj{"call_id": id, "cseq": 2, "expires": 0})
}

// pushed waits until the token got its n-th push.
func (r *rig) pushed(token string, n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d pushes", n), func() bool { return r.pushes(token) >= n })
}

// Invariant 2: at most one push for each device and wake, even if requests are repeated or
// forked.
func TestInvariant2OnePushADevice(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "pushing" || res.Devices != 1 || res.HoldS != 30 {
		t.Fatalf("wake.start: %+v", res)
	}
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "duplicate" || res.HoldS == 0 {
		t.Errorf("retransmitted: %+v", res)
	}
	if res := r.startWake("bob@example.com", "9-9", obj{"call_id": "call-1-1"}); res.Outcome != "duplicate" || res.HoldS == 0 {
		t.Errorf("forked: %+v", res)
	}
	r.pushed(apnsToken(1), 1)
	// Both branches of the fork are woken, though one push was sent.
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "reg2"})
	r.node.waitFor(t, "wake", "1-1")
	r.node.waitFor(t, "wake", "9-9")
	// Another call is another wake.
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "reg2", "cseq": 2, "expires": 0})
	r.startWake("bob@example.com", "2-2", nil)
	r.pushed(apnsToken(1), 2)
	if n := r.pushes(apnsToken(1)); n != 2 {
		t.Errorf("%d pushes for two calls", n)
	}
}

// Invariant 2: a device that has just registered is rung, not pushed.
func TestInvariant2AwakeIsNotPushed(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{recent: 5 * time.Second})
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), nil)
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-of-bob-1"))
	delivered := make(chan struct{}, 1)
	r.fcm.OnDeliver("fcm-token-of-bob-1", func(*fcmsim.Message) { delivered <- struct{}{} })
	if res := r.startWake("bob@example.com", "1-1", nil); res.Outcome != "pushing" || res.Devices != 1 {
		t.Fatalf("wake.start: %+v", res)
	}
	select {
	case <-delivered:
	case <-time.After(10 * time.Second):
		t.Fatal("the other device was not pushed")
	}
	r.node.waitFor(t, "wake", "1-1")
	if n := r.pushes(apnsToken(1)); n != 0 {
		t.Errorf("the device that is awake got %d pushes", n)
	}
}

// Invariant 3: a signal is repeated until the node has taken it.
func TestInvariant3SignalIsNotLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	answers := []string{"broken", "nocontact", "broken", "nocontact", "nocontact", "nocontact", "nocontact"}
	r.node.answer = func(s signal, n int) string {
		if s.Method == "wake" && n <= len(answers) {
			return answers[n-1]
		}
		return ""
	}
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1-1", nil)
	if res := r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "reg2"}); res.Wakes != 1 {
		t.Fatalf("binding.register: %+v", res)
	}
	eventually(t, "added", func() bool { return len(r.node.seen("wake", "1-1")) == len(answers)+1 })
	all := r.node.seen("wake", "1-1")
	if all[0].Params.Force != 0 || all[len(all)-1].Params.Force != 1 {
		t.Error("the first signals must ask for that very registration, the last ones take what is there")
	}
}

// Invariant 3: a node that is down for a while still gets the signal.
func TestInvariant3NodeComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.node.answer = func(_ signal, n int) string {
		if n <= 4 {
			return "broken"
		}
		return ""
	}
	r.startWake("bob@example.com", "0-0", nil) // nobody: no signal
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1-1", nil)
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "reg2"})
	eventually(t, "added", func() bool { return len(r.node.seen("wake", "1-1")) == 5 })
}

// Invariant 4: a binding goes only on evidence, and only if its token is still the
// one that was tried.
func TestInvariant4RemovedOnlyOnEvidence(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name      string
		behaviour apnssim.Behaviour
		left      int
	}{
		{"gone", apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)}, 0},
		{"gone before it registered again", apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(-time.Hour)}, 1},
		{"refused token", apnssim.Behaviour{Status: 400, Reason: "BadDeviceToken"}, 1},
		{"our credential", apnssim.Behaviour{Status: 403, Reason: "InvalidProviderToken"}, 1},
		{"server error", apnssim.Behaviour{Status: 500, Reason: "InternalServerError"}, 1},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			aor, call, token := fmt.Sprintf("u%d@example.com", i), fmt.Sprintf("%d-0", i), apnsToken(100+i)
			r.asleep(aor, apnsContact("u", token))
			r.apns.Behave(token, c.behaviour)
			r.startWake(aor, call, nil)
			r.node.waitFor(t, "give_up", call)
			if c.left == 0 {
				eventually(t, "binding removed", func() bool { return r.bindings(aor) == 0 })
			} else if n := r.bindings(aor); n != c.left {
				t.Errorf("%d bindings left, want %d", n, c.left)
			}
		})
	}
}

// Invariant 4: the token changed while the push was under way.
func TestInvariant4TokenChangedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	const instance = `;+sip.instance="<urn:uuid:0a4b6c1e-1111-4222-8333-444455556666>"`
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1))+instance)
	r.apns.Behave(apnsToken(1), apnssim.Behaviour{Status: 410, Reason: "Unregistered",
		Timestamp: time.Now().Add(time.Hour), Delay: 300 * time.Millisecond})
	r.startWake("bob@example.com", "1-1", nil)
	if res := r.register("bob@example.com", apnsContact("bob", apnsToken(2))+instance, obj{"call_id": "reg2"}); res.Status != "stored" || res.Devices != 1 {
		t.Fatalf("new token of the same device: %+v", res)
	}
	eventually(t, "the dead token was tried", func() bool { return r.pushes(apnsToken(1)) == 1 })
	eventually(t, "failure in the trace", func() bool { return strings.Contains(r.trace("bob@example.com"), "token_dead") })
	if n := r.bindings("bob@example.com"); n != 1 {
		t.Errorf("the new token went with the old one: %d bindings", n)
	}
}

func (r *rig) trace(aor string) string {
	r.t.Helper()
	var res struct {
		Wakes []struct {
			Outcome, Reason string
			Events          []struct{ Event, Device, Detail string }
		}
	}
	r.call("wake.trace", obj{"aor": aor}, &res)
	return fmt.Sprint(res)
}

// Invariant 5: an iOS voip token is only ever pushed for a call.
func TestInvariant5VoIPTokenOnlyForCalls(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	if res := r.startWake("bob@example.com", "1-1", obj{"kind": "chat"}); res.Outcome != "none" || res.HoldS != 0 {
		t.Errorf("a MESSAGE to a phone with a voip token only: %+v", res)
	}
	for _, kind := range []any{"custom", "chat", "refresh", "cancel", 1, "2", 3, 4} {
		var res struct {
			Devices []struct{ State, Reason string }
		}
		r.call("push.send", obj{"aor": "bob@example.com", "kind": kind, "title": "t", "body": "b"}, &res)
		if len(res.Devices) != 1 || res.Devices[0].Reason != "no_token" {
			t.Errorf("push.send %v: %+v", kind, res)
		}
	}
	r.startWake("bob@example.com", "2-2", nil)
	r.pushed(apnsToken(1), 1)
	p := r.apns.Pushes()
	if len(p) != 1 || p[0].PushType != "voip" || p[0].Expiration == "0" || p[0].Priority != "10" || p[0].Topic != bundle+".voip" {
		t.Errorf("pushes: %+v", p)
	}
}

// Invariant 6: when every device is known to be unreachable, the node is told at
// once.
func TestInvariant6DeadFast(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(2)))
	dead := apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)}
	r.apns.Behave(apnsToken(1), dead)
	began := time.Now()
	r.startWake("bob@example.com", "1-1", nil)
	r.pushed(apnsToken(2), 1)
	eventually(t, "the dead binding is gone", func() bool { return r.bindings("bob@example.com") == 1 })
	if n := len(r.node.seen("give_up", "1-1")); n != 0 {
		t.Fatal("the node was told to give up, though one device may come")
	}
	r.endWake("bob@example.com", "1-1", "timeout")

	r.apns.Behave(apnsToken(2), dead)
	r.startWake("bob@example.com", "2-2", nil)
	s := r.node.waitFor(t, "give_up", "2-2")
	if took := s.At.Sub(began); took > 20*time.Second { // far below the hold time of 30 s
		t.Errorf("told after %s", took)
	}
	eventually(t, "the other binding is gone too", func() bool { return r.bindings("bob@example.com") == 0 })
	if res := r.startWake("bob@example.com", "3-3", nil); res.Outcome != "none" || res.HoldS != 0 {
		t.Errorf("nobody left: %+v", res)
	}
}

// Invariant 6: a call to a phone that declines must not wait for the hold time:
// once every device is back the node stops holding.
func TestInvariant6NoWaitWhenEveryoneIsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{wake: "  linger: 1ms"})
	r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
	r.startWake("bob@example.com", "1-1", nil)
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), obj{"call_id": "reg2"})
	r.node.waitFor(t, "wake", "1-1")
	r.node.waitFor(t, "give_up", "1-1")
}

// Invariant 7: no token, credential or push parameter in logs, metrics, traces,
// errors or answers.
func TestInvariant7NothingLeaks(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: ""})
	tokens := []string{apnsToken(0xabcdef01), apnsToken(0xabcdef02), "fcm-token-secret-1", "fcm-token-secret-2"}
	var said strings.Builder
	note := func(v any) { fmt.Fprintf(&said, "%+v\n", v) }
	for i, contact := range []string{apnsContact("bob", tokens[0]), apnsContact("bob", tokens[1]),
		fcmContact("bob", tokens[2]), fcmContact("bob", tokens[3])} {
		note(r.register("bob@example.com", contact, obj{"call_id": fmt.Sprint("r", i), "expires": 600}))
		note(r.register("bob@example.com", contact, obj{"call_id": fmt.Sprint("r", i), "cseq": 2, "expires": 0}))
	}
	r.apns.Behave(tokens[0], apnssim.Behaviour{Status: 410, Reason: "Unregistered", Timestamp: time.Now().Add(time.Hour)})
	r.apns.Behave(tokens[1], apnssim.Behaviour{Fault: apnssim.Reset})
	note(r.startWake("bob@example.com", "1-1", nil))
	eventually(t, "dead binding removed", func() bool { return r.bindings("bob@example.com") == 3 })
	for _, bad := range []obj{
		{"contact": "<sip:bob@192.0.2.7;pn-provider=apns;pn-param=x;pn-prid=" + tokens[0] + "%zz>"},
		{"contact": `"broken <sip:bob@192.0.2.7;pn-provider=apns;pn-prid=` + tokens[0]},
		{"headers": obj{"X-MPUSH": "q:" + bundle + ":" + tokens[0]}},
		{"headers": obj{"X-MPUSH": []string{tokens[0]}}},
	} {
		p := obj{"node": nodeID, "aor": "bob@example.com", "call_id": "x", "cseq": 1}
		for k, v := range bad {
			p[k] = v
		}
		note(r.try("binding.register", p, nil))
	}
	_, answer := r.post(`{"jsonrpc":"2.0","id":1,"method":"binding.register","params":{"contact":"` + tokens[0] + `"`)
	note(string(answer))
	note(r.try("push.send", obj{"provider": "apns", "app": "no.such.app", "token": tokens[0], "kind": "custom"}, nil))
	for _, method := range []string{"binding.list", "wake.trace"} {
		var v any
		r.call(method, obj{"aor": "bob@example.com"}, &v)
		note(v)
	}
	for _, method := range []string{"service.info", "service.stats", "service.load"} {
		var v any
		r.call(method, nil, &v)
		note(v)
	}
	_, metrics := r.get("/metrics")
	for _, secret := range append(tokens, nodeSecret, "PRIVATE KEY", "pn-prid=", "eyJ") {
		for where, text := range map[string]string{"logs": r.logs.String(), "metrics": metrics, "answers": said.String()} {
			if strings.Contains(text, secret) {
				t.Errorf("%s hold %q", where, secret)
			}
		}
	}
}

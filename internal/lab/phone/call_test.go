package phone_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

func final(t *testing.T, c *phone.Call, want int) phone.Result {
	t.Helper()
	res := must(c.Final(bound(t)))(t)
	if res.Code != want {
		t.Fatalf("call ended with %d, want %d", res.Code, want)
	}
	return res
}

// callMe registers bob and lets alice call him.
func callMe(t *testing.T, r *relay, set func(*phone.Config), b phone.Behaviour) (alice, bob *phone.Phone, c *phone.Call) {
	t.Helper()
	bob = newPhone(t, r, "bob", set)
	bob.SetBehaviour(b)
	register(t, bob)
	alice = newPhone(t, r, "alice", set)
	return alice, bob, must(alice.Invite(bound(t), "bob", phone.InviteOptions{}))(t)
}

func TestCall(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		alice, bob, c := callMe(t, r, set, phone.Answer(time.Millisecond))
		if m := must(c.Provisional(ctx, 180))(t); m.Method() != "INVITE" {
			t.Errorf("180 to %s", m.Method())
		}
		res := final(t, c, 200)
		if res.After <= 0 || !strings.Contains(res.Message.Header("Contact"), bob.LocalAddr().String()) {
			t.Errorf("after %s: %s", res.After, res.Message.Raw)
		}
		if !strings.Contains(string(res.Message.Body()), "a=inactive") {
			t.Errorf("no session: %q", res.Message.Body())
		}
		in := must(bob.WaitInvite(ctx))(t)
		if err := in.Acked(ctx); err != nil {
			t.Fatal(err)
		}
		if in.Request.CallID() != c.CallID() || !strings.HasPrefix(in.Request.URI(), "sip:bob@127.0.0.1") {
			t.Errorf("INVITE:\n%s", in.Request.Raw)
		}
		if m := must(c.Bye(ctx))(t); m.Code() != 200 {
			t.Errorf("BYE got %d", m.Code())
		}
		bye := must(bob.WaitBye(ctx))(t)
		// Of the two routes the relay took off its own; the order is the callee's.
		if got := bye.Headers("Route"); !slices.Equal(got, []string{"<sip:" + r.addr + ";lr;a=1>"}) {
			t.Errorf("Route %q", got)
		}
		if _, err := c.Bye(ctx); !errors.Is(err, phone.ErrNotUp) {
			t.Errorf("second BYE: %v", err)
		}
		want := []phone.Kind{phone.Opened, phone.Registered, phone.GotInvite, phone.Ringing, phone.Answered, phone.GotAck, phone.GotBye}
		if got := kinds(bob); !slices.Equal(got, want) {
			t.Errorf("bob's events %v, want %v", got, want)
		}
		if len(bob.Requests("INVITE")) != 1 || len(alice.Requests("INVITE")) != 0 {
			t.Error("wrong number of INVITEs")
		}
	})
}

func TestCalleeHangsUp(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	alice, bob, c := callMe(t, r, nil, phone.RingOnly())
	in := must(bob.WaitInvite(ctx))(t)
	if err := in.Answer(200); err != nil {
		t.Fatal(err)
	}
	if err := in.Answer(486); !errors.Is(err, phone.ErrNotUp) {
		t.Errorf("answered twice: %v", err)
	}
	if err := in.Answer(180); err == nil || errors.Is(err, phone.ErrNotUp) {
		t.Errorf("answered with 180: %v", err)
	}
	final(t, c, 200)
	if err := in.Acked(ctx); err != nil {
		t.Fatal(err)
	}
	if m := must(in.Bye(ctx))(t); m.Code() != 200 {
		t.Errorf("BYE got %d", m.Code())
	}
	bye := must(alice.WaitBye(ctx))(t)
	if bye.CallID() != c.CallID() || !slices.Equal(bye.Headers("Route"), []string{"<sip:" + r.addr + ";lr;a=2>"}) {
		t.Errorf("BYE:\n%s", bye.Raw)
	}
	if _, err := c.Bye(ctx); !errors.Is(err, phone.ErrNotUp) {
		t.Errorf("BYE after BYE: %v", err)
	}
}

func TestReject(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		for _, code := range []int{486, 603} {
			ctx, r := bound(t), newRelay(t)
			_, bob, c := callMe(t, r, set, phone.Reject(code, 0))
			final(t, c, code)
			if err := must(bob.WaitInvite(ctx))(t).Acked(ctx); err != nil {
				t.Error(err)
			}
			if e := must(bob.Next(ctx, phone.Rejected))(t); e.Code != code || e.CallID != c.CallID() {
				t.Errorf("got %v", e)
			}
			if _, err := c.Bye(ctx); !errors.Is(err, phone.ErrNotUp) {
				t.Errorf("BYE of a call that was never up: %v", err)
			}
			if _, err := c.Cancel(ctx); !errors.Is(err, phone.ErrNotUp) {
				t.Errorf("CANCEL of a call that is over: %v", err)
			}
		}
	})
}

func TestCancel(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		_, bob, c := callMe(t, r, set, phone.RingOnly())
		if m := must(c.Cancel(ctx))(t); m.Code() != 200 || m.Method() != "CANCEL" {
			t.Errorf("CANCEL got %d to %s", m.Code(), m.Method())
		}
		final(t, c, 487)
		invite, cancel := must(bob.WaitInvite(ctx))(t), must(bob.WaitCancel(ctx))(t)
		if invite.Request.Branch() != cancel.Branch() {
			t.Error("CANCEL of another transaction")
		}
		if err := invite.Acked(ctx); err != nil {
			t.Error(err)
		}
		must(bob.Next(ctx, phone.Terminated))(t)
		if err := invite.Answer(200); !errors.Is(err, phone.ErrNotUp) {
			t.Errorf("answered a cancelled call: %v", err)
		}
	})
}

// A CANCEL waits for a provisional response: the callee never sees it first.
func TestCancelWaitsForProvisional(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	bob := newPhone(t, r, "bob", nil)
	bob.SetBehaviour(phone.RingOnly())
	register(t, bob)
	bob.SleepDeaf()
	fast := func(c *phone.Config) { c.T1 = 20 * time.Millisecond }
	c := must(newPhone(t, r, "alice", fast).Invite(ctx, "bob", phone.InviteOptions{}))(t)
	must(bob.WaitInvite(ctx))(t)
	over, stop := context.WithCancel(ctx)
	stop()
	if _, err := c.Cancel(over); !errors.Is(err, context.Canceled) {
		t.Errorf("CANCEL without a provisional response: %v", err)
	}
	cancelled := make(chan error)
	go func() {
		_, err := c.Cancel(ctx)
		cancelled <- err
	}()
	must(bob.Next(ctx, phone.GotAgain))(t)
	if len(bob.Requests("CANCEL")) != 0 {
		t.Error("CANCEL came before the phone had answered")
	}
	must(bob.Wake(ctx))(t)
	if err := <-cancelled; err != nil {
		t.Error(err)
	}
	final(t, c, 487)
}

func TestStrayRequestsGet481(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	bob := newPhone(t, r, "bob", nil)
	if err := bob.Open(ctx); err != nil {
		t.Fatal(err)
	}
	eve := newPhone(t, r, "eve", func(c *phone.Config) { c.Proxy = bob.LocalAddr().String() })
	for _, method := range []string{"BYE", "CANCEL"} {
		text := method + " sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK" + method +
			"\r\nf: <sip:eve@example.com>;tag=1\r\nt: <sip:bob@example.com>;tag=2\r\ni: x\r\nCSeq: 1 " + method + "\r\n\r\n"
		if err := eve.SendRaw(ctx, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if e := must(eve.Next(ctx, phone.GotStray))(t); e.Code != 481 || e.CallID != "x" {
			t.Errorf("%s got %v", method, e)
		}
	}
}

// A phone has the UDP port that another one has left, and hears what is for that one.
func TestAnotherUsersCallGets404(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	bob := newPhone(t, r, "bob", nil)
	if err := bob.Open(ctx); err != nil {
		t.Fatal(err)
	}
	eve := newPhone(t, r, "eve", func(c *phone.Config) { c.Proxy = bob.LocalAddr().String() })
	c := must(eve.Invite(ctx, "sip:carol@"+bob.LocalAddr().String(), phone.InviteOptions{}))(t)
	final(t, c, 404)
	if m := must(eve.Message(ctx, "sip:carol@"+bob.LocalAddr().String(), "hello"))(t); m.Code() != 404 {
		t.Errorf("MESSAGE got %d", m.Code())
	}
	if n := len(bob.Requests("INVITE")) + len(bob.Requests("MESSAGE")); n != 0 {
		t.Errorf("%d requests are his", n)
	}
	bob.SetContact("<sip:carol@192.0.2.1>")
	must(eve.Invite(ctx, "sip:carol@"+bob.LocalAddr().String(), phone.InviteOptions{}))(t)
	must(bob.WaitInvite(ctx))(t)
}

func TestMessage(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		bob := newPhone(t, r, "bob", set)
		register(t, bob)
		alice := newPhone(t, r, "alice", set)
		const text = "Hello \u017elu\u0165 \U0001f600\r\n\r\nsecond part"
		if m := must(alice.Message(ctx, "bob", text))(t); m.Code() != 200 {
			t.Errorf("got %d", m.Code())
		}
		if m := must(bob.WaitMessage(ctx))(t); string(m.Body()) != text || m.Header("Content-Type") != "text/plain" {
			t.Errorf("got %q", m.Raw)
		}
		bob.SetBehaviour(phone.Behaviour{MessageCode: 415})
		if m := must(alice.Message(ctx, "sip:bob@example.com", text))(t); m.Code() != 415 {
			t.Errorf("got %d", m.Code())
		}
	})
}

func TestHostileDisplayNames(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		bob := newPhone(t, r, "bob", set)
		bob.SetBehaviour(phone.Reject(486, 0))
		register(t, bob)
		alice := newPhone(t, r, "alice", set)
		for _, name := range []string{`"Eve \"}, \"method\": \"pwn"`, `"a\\"`, "\"\U0001f600 日本\"", `"$rU $(ci) %s"`, "\"bad\xff\xfe\"",
			"it's", "\"tab\there\"", "\"bell\x07 nul\x00\"", `"open`, `"<sip:x@y>;tag=evil"`, `a, b`} {
			c := must(alice.Invite(ctx, "bob", phone.InviteOptions{Display: []byte(name), Headers: map[string]string{"X-Odd": name}}))(t)
			final(t, c, 486)
			in := must(bob.WaitInvite(ctx))(t)
			if got := in.Request.Header("From"); !bytes.HasPrefix([]byte(got), []byte(name+" <sip:alice@example.com>;tag=")) {
				t.Errorf("sent %q, came as %q", name, got)
			}
			if got := in.Request.Header("X-Odd"); got != name {
				t.Errorf("sent %q, came as %q", name, got)
			}
			if err := in.Acked(ctx); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

func TestDeafPhoneHearsAndIsSilent(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	fast := func(c *phone.Config) { c.T1 = 20 * time.Millisecond }
	bob := newPhone(t, r, "bob", fast)
	register(t, bob)
	at := bob.LocalAddr()
	bob.SleepDeaf()
	alice := newPhone(t, r, "alice", fast)
	c := must(alice.Invite(ctx, "bob", phone.InviteOptions{}))(t)
	in := must(bob.WaitInvite(ctx))(t)
	for range 3 { // retransmissions: silence in between
		must(bob.Next(ctx, phone.GotAgain))(t)
	}
	if got := kinds(alice); slices.Contains(got, phone.Provisional) {
		t.Errorf("a deaf phone answered: %v", got)
	}
	// Awake again, it answers the next retransmission of what it had heard.
	if m := must(bob.Wake(ctx))(t); m.Code() != 200 {
		t.Fatalf("REGISTER got %d", m.Code())
	}
	final(t, c, 200)
	if bob.LocalAddr() != at {
		t.Error("a deaf phone changed its port")
	}
	if err := in.Acked(ctx); err != nil {
		t.Error(err)
	}
	if n := len(bob.Requests("INVITE")); n != 1 {
		t.Errorf("%d INVITEs", n)
	}
}

// The whole story, as a proxy without any memory can play it: the INVITE is
// repeated by the caller until the phone is back.
func TestPushWakesAndTheCallIsAnswered(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	fast := func(c *phone.Config) { c.T1 = 20 * time.Millisecond }
	bob := newPhone(t, r, "bob", fast)
	register(t, bob)
	bob.Sleep()
	alice := newPhone(t, r, "alice", fast)
	c := must(alice.Invite(ctx, "bob", phone.InviteOptions{}))(t)
	bob.OnPush([]byte("call"))
	final(t, c, 200)
	if m := must(c.Bye(ctx))(t); m.Code() != 200 {
		t.Errorf("BYE got %d", m.Code())
	}
}

// Of every message the first copy is lost on its way into the relay.
func TestEverythingIsSentAgain(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	seen := map[string]bool{}
	r.lose(func(text string) bool {
		start, _, _ := strings.Cut(text, "\r\n")
		key := start[:7] + first(header(text, "Via")) + first(header(text, "CSeq"))
		if strings.HasPrefix(text, "ACK") {
			key = "ACK"
		}
		known := seen[key]
		seen[key] = true
		return !known
	})
	fast := func(c *phone.Config) { c.T1 = 20 * time.Millisecond }
	alice, bob, c := callMe(t, r, fast, phone.Answer(0))
	final(t, c, 200)
	in := must(bob.WaitInvite(ctx))(t)
	if err := in.Acked(ctx); err != nil {
		t.Fatal(err)
	}
	if m := must(c.Bye(ctx))(t); m.Code() != 200 {
		t.Errorf("BYE got %d", m.Code())
	}
	if m := must(alice.Message(ctx, "bob", "hi"))(t); m.Code() != 200 {
		t.Errorf("MESSAGE got %d", m.Code())
	}
	for _, method := range []string{"INVITE", "BYE", "MESSAGE"} {
		if n := len(bob.Requests(method)); n != 1 {
			t.Errorf("%d %ss were counted", n, method)
		}
	}
	must(bob.Next(ctx, phone.GotAgain))(t)
}

// A forking proxy may pass on two 2xx: the second callee is hung up on.
func TestBothAnswer(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	one, two := newPhone(t, r, "bob", nil), newPhone(t, r, "bob", nil)
	one.SetBehaviour(phone.RingOnly())
	two.SetBehaviour(phone.RingOnly())
	register(t, one)
	register(t, two)
	alice := newPhone(t, r, "alice", nil)
	c := must(alice.Invite(ctx, "bob", phone.InviteOptions{}))(t)
	first, second := must(one.WaitInvite(ctx))(t), must(two.WaitInvite(ctx))(t)
	if err := errors.Join(first.Answer(200), first.Acked(ctx), second.Answer(200), second.Acked(ctx)); err != nil {
		t.Fatal(err)
	}
	must(alice.Next(ctx, phone.Forked))(t)
	if bye := must(two.WaitBye(ctx))(t); bye.CallID() != c.CallID() {
		t.Errorf("BYE of %q", bye.CallID())
	}
	if len(one.Requests("BYE")) != 0 {
		t.Error("the first callee was hung up on")
	}
	if m := must(c.Bye(ctx))(t); m.Code() != 200 {
		t.Errorf("BYE got %d", m.Code())
	}
}

func TestUnknownUser(t *testing.T) {
	r := newRelay(t)
	alice := newPhone(t, r, "alice", nil)
	c := must(alice.Invite(bound(t), "nobody", phone.InviteOptions{}))(t)
	if res := final(t, c, 480); res.Message.Header("CSeq") != "1 INVITE" {
		t.Errorf("answer:\n%s", res.Message.Raw)
	}
}

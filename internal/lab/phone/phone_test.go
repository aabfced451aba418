package phone_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bound ends a test that waits for something that never happens.
func bound(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newPhone(t *testing.T, r *relay, user string, change func(*phone.Config)) *phone.Phone {
	t.Helper()
	cfg := phone.Config{User: user, Domain: "example.com", Proxy: r.addr, Behaviour: phone.Answer(0)}
	if change != nil {
		change(&cfg)
	}
	p, err := phone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// must fails the test for an error, and returns the value.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func register(t *testing.T, p *phone.Phone) *phone.Message {
	t.Helper()
	m := must(p.Register(bound(t), time.Minute))(t)
	if m.Code() != 200 {
		t.Fatalf("REGISTER got %d", m.Code())
	}
	return m
}

func kinds(p *phone.Phone) []phone.Kind {
	var out []phone.Kind
	for _, e := range p.Events() {
		out = append(out, e.Kind)
	}
	return out
}

func eachTransport(t *testing.T, test func(t *testing.T, set func(*phone.Config))) {
	for _, transport := range []string{phone.UDP, phone.TCP} {
		t.Run(transport, func(t *testing.T) {
			test(t, func(c *phone.Config) { c.Transport = transport })
		})
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, cfg := range map[string]phone.Config{
		"no user":       {Domain: "d", Proxy: "127.0.0.1:5060"},
		"no domain":     {User: "u", Proxy: "127.0.0.1:5060"},
		"no proxy":      {User: "u", Domain: "d"},
		"bad transport": {User: "u", Domain: "d", Proxy: "127.0.0.1:5060", Transport: "pigeon"},
	} {
		if _, err := phone.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRegister(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		p := newPhone(t, r, "bob", func(c *phone.Config) {
			set(c)
			c.ContactParams = ";pn-provider=apns;pn-prid=abc"
			c.Instance = "urn:uuid:1"
			c.Headers = map[string]string{"X-MPUSH": "one", "X-PIID": "two"}
		})
		m := register(t, p)
		if got := m.Header("feature-caps"); got != `*;+sip.pns="apns"` {
			t.Errorf("Feature-Caps %q", got)
		}
		// Three without waiting, each with an answer of its own.
		var sent []*phone.Transaction
		for range 3 {
			sent = append(sent, must(p.SendRegister(ctx, 0))(t))
		}
		for _, s := range sent {
			if m := must(s.Final(ctx))(t); m.Code() != 200 {
				t.Errorf("got %d", m.Code())
			}
		}
		p.SetContact("<sip:bob@10.9.8.7:5060;pn-prid=old>")
		register(t, p)

		seen := r.seenRegisters()
		if len(seen) != 5 {
			t.Fatalf("%d REGISTERs, want 5", len(seen))
		}
		for i, text := range seen {
			if got, want := first(header(text, "CSeq")), fmt.Sprintf("%d REGISTER", i+1); got != want {
				t.Errorf("CSeq %q, want %q", got, want)
			}
			if first(header(text, "Call-ID")) != first(header(seen[0], "Call-ID")) {
				t.Errorf("REGISTER %d has another Call-ID", i)
			}
			if first(header(text, "X-MPUSH")) != "one" || first(header(text, "X-PIID")) != "two" {
				t.Errorf("REGISTER %d lacks the headers:\n%s", i, text)
			}
		}
		contact := first(header(seen[0], "Contact"))
		if !strings.Contains(contact, p.LocalAddr().String()) ||
			!strings.Contains(contact, `;pn-provider=apns;pn-prid=abc>;+sip.instance="<urn:uuid:1>"`) {
			t.Errorf("Contact %q", contact)
		}
		if got := first(header(seen[4], "Contact")); got != "<sip:bob@10.9.8.7:5060;pn-prid=old>" {
			t.Errorf("Contact %q, not the one that was set", got)
		}
		if first(header(seen[3], "Expires")) != "0" || first(header(seen[4], "Expires")) != "60" {
			t.Errorf("Expires %q, %q", header(seen[3], "Expires"), header(seen[4], "Expires"))
		}
	})
}

func TestWakeComesBackOnANewFlow(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		p := newPhone(t, r, "bob", set)
		register(t, p)
		before := p.LocalAddr()
		p.Sleep()
		if _, err := p.Register(ctx, time.Minute); !errors.Is(err, phone.ErrAsleep) {
			t.Errorf("a phone that sleeps registers: %v", err)
		}
		if m := must(p.Wake(ctx))(t); m.Code() != 200 {
			t.Errorf("got %d", m.Code())
		}
		if p.LocalAddr() == before {
			t.Error("same port after Sleep")
		}
		if e := must(p.Next(ctx, phone.Woken))(t); e.Code != 200 {
			t.Errorf("Woken with %d", e.Code)
		}
		seen := r.seenRegisters()
		if first(header(seen[0], "Call-ID")) != first(header(seen[1], "Call-ID")) || first(header(seen[1], "CSeq")) != "2 REGISTER" {
			t.Errorf("not the same registration:\n%s", seen[1])
		}
		at := p.LocalAddr()
		must(p.Wake(ctx))(t)
		if p.LocalAddr() != at {
			t.Error("a phone that is awake changed its port")
		}
	})
}

// Over UDP the same socket goes to another proxy at once, over TCP the next
// connection does.
func TestSetProxy(t *testing.T) {
	f := func(transport string, same bool) {
		t.Helper()
		one, other := newRelay(t), newRelay(t)
		p := newPhone(t, one, "alice", func(c *phone.Config) { c.Transport = transport })
		register(t, p)
		before := p.LocalAddr()
		if err := p.SetProxy(other.addr); err != nil {
			t.Fatal(err)
		}
		if !same {
			p.Sleep()
			must(p.Wake(bound(t)))(t)
		}
		register(t, p)
		one.mu.Lock()
		first := len(one.registers)
		one.mu.Unlock()
		other.mu.Lock()
		second := len(other.registers)
		other.mu.Unlock()
		if first != 1 || second == 0 || (p.LocalAddr() == before) != same {
			t.Errorf("%s: %d REGISTERs at the first proxy, %d at the other; %s and %s", transport, first, second, before, p.LocalAddr())
		}
		if err := p.SetProxy("nowhere"); err == nil {
			t.Error("nowhere is taken for a proxy")
		}
	}
	f(phone.UDP, true)
	f(phone.TCP, false)
}

func TestLostConnectionIsSeenAndReplaced(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	p := newPhone(t, r, "bob", func(c *phone.Config) { c.Transport = phone.TCP })
	register(t, p)
	r.cutAll()
	must(p.Next(ctx, phone.Lost))(t)
	before := p.LocalAddr()
	register(t, p)
	if p.LocalAddr() == before {
		t.Error("no new connection")
	}
}

func TestPushWakesOnce(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	hold := make(chan struct{})
	r.lose(func(text string) bool {
		if strings.HasPrefix(text, "REGISTER") {
			<-hold
		}
		return false
	})
	p := newPhone(t, r, "bob", func(c *phone.Config) {
		c.WakeOn = func(payload []byte) bool { return string(payload) != "cancel" }
	})
	p.Sleep()
	p.OnPush([]byte("cancel"))
	p.OnPush([]byte("call"))
	p.OnPush([]byte("call"))
	close(hold)
	if e := must(p.Next(ctx, phone.Woken))(t); e.Code != 200 {
		t.Fatalf("woken with %v", e)
	}
	if e := must(p.Next(ctx, phone.GotPush))(t); string(e.Payload) != "cancel" {
		t.Errorf("payload %q", e.Payload)
	}
	if n := len(r.seenRegisters()); n != 1 {
		t.Errorf("%d REGISTERs for two pushes", n)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	r.lose(func(string) bool { return true })
	p := newPhone(t, r, "bob", nil)
	s := must(p.SendRegister(ctx, time.Minute))(t)
	c := must(p.Invite(ctx, "nobody", phone.InviteOptions{}))(t)
	p.OnPush(nil)
	p.Close()
	p.Close()
	if _, err := s.Final(ctx); err == nil {
		t.Error("REGISTER was answered")
	}
	if _, err := c.Cancel(ctx); err == nil {
		t.Error("INVITE was cancelled")
	}
	if _, err := p.WaitInvite(ctx); !errors.Is(err, phone.ErrClosed) {
		t.Errorf("wait on a closed phone: %v", err)
	}
	if _, err := p.Wake(ctx); !errors.Is(err, phone.ErrClosed) {
		t.Errorf("wake of a closed phone: %v", err)
	}
	p.OnPush(nil)
}

func TestRequestIsGivenUp(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	r.lose(func(string) bool { return true })
	p := newPhone(t, r, "bob", func(c *phone.Config) { c.T1 = time.Millisecond })
	if _, err := p.Register(ctx, time.Minute); !errors.Is(err, phone.ErrNoAnswer) {
		t.Errorf("REGISTER: %v", err)
	}
	c := must(p.Invite(ctx, "alice", phone.InviteOptions{}))(t)
	if _, err := c.Final(ctx); !errors.Is(err, phone.ErrNoAnswer) {
		t.Errorf("INVITE: %v", err)
	}
}

func TestRawBytes(t *testing.T) {
	eachTransport(t, func(t *testing.T, set func(*phone.Config)) {
		ctx, r := bound(t), newRelay(t)
		p := newPhone(t, r, "bob", set)
		if err := p.SendRaw(ctx, []byte("\x00\xff nonsense\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if e := must(p.Next(ctx, phone.GotStray))(t); e.Code != 400 || !strings.HasPrefix(e.Message.Raw, "SIP/2.0 400") {
			t.Errorf("got %v", e)
		}
	})
}

func TestGarbageIsRecordedAndForgotten(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	p := newPhone(t, r, "bob", nil)
	if err := p.Open(ctx); err != nil {
		t.Fatal(err)
	}
	other := newPhone(t, r, "eve", func(c *phone.Config) { c.Proxy = p.LocalAddr().String() })
	texts := []string{"garbage", "INVITE sip:bob@example.com SIP/2.0\r\n\rno\r\n\r\n", "\x00\x01\x02", strings.Repeat("a", 20000),
		"MESSAGE sip:bob@x SIP/2.0\r\nCSeq: -1 X\r\nContent-Length: 99999\r\n\r\nhi"}
	for _, text := range texts {
		if err := other.SendRaw(ctx, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	// Datagrams on one socket keep their order on the loopback.
	if m := must(other.Message(ctx, "bob", "still there?"))(t); m.Code() != 200 {
		t.Errorf("got %d", m.Code())
	}
	garbage := 0
	for _, e := range p.Events() {
		if e.Kind == phone.GotGarbage {
			garbage++
		}
	}
	if garbage != 4 {
		t.Errorf("%d of 4 pieces of garbage: %v", garbage, kinds(p))
	}
}

func TestEventsAreKeptAndFound(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	var hooked []phone.Kind
	p := newPhone(t, r, "bob", func(c *phone.Config) {
		c.Keep = 4
		c.OnEvent = func(e phone.Event) { hooked = append(hooked, e.Kind) }
	})
	for range 20 {
		register(t, p)
	}
	if n := len(p.Events()); n < 4 || n > 8 {
		t.Errorf("%d events are kept, want 4 to 8", n)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	_, err := p.WaitFrom(short, p.Mark(), func(phone.Event) bool { return true })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "registered 200") {
		t.Errorf("the error does not tell what happened: %v", err)
	}
	must(p.Wait(short, func(e phone.Event) bool { return e.Kind == phone.Registered }))(t)
	taken := 0
	for {
		if _, err := p.Next(short, phone.Registered); err != nil {
			break
		}
		taken++
	}
	if want := len(p.Events()); taken != want {
		t.Errorf("Next returned %d events of %d", taken, want)
	}
	p.Close()
	if len(hooked) != 21 || hooked[0] != phone.Opened || slices.Contains(hooked[1:], phone.Opened) {
		t.Errorf("hook got %v", hooked)
	}
}

func TestIdlePhonesAreCheap(t *testing.T) {
	ctx, r := bound(t), newRelay(t)
	const n = 200
	before := runtime.NumGoroutine()
	for i := range n {
		p := newPhone(t, r, fmt.Sprint("bob", i), nil)
		register(t, p)
		must(p.Next(ctx, phone.Registered))(t)
	}
	// Each has its reader; those that watched a REGISTER may be on their way out.
	for runtime.NumGoroutine()-before > n+n/10 {
		if ctx.Err() != nil {
			t.Fatalf("%d goroutines for %d idle phones", runtime.NumGoroutine()-before, n)
		}
		runtime.Gosched()
	}
}

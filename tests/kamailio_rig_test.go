package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/fcmsim"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
)

// The tests with a real Kamailio: the sipwake of a rig, and phones on real sockets
// that the simulated APNs and FCM deliver to. A call goes INVITE, held, push,
// simulator, phone, REGISTER, INVITE, 200, ACK, BYE.
//
// Where each scenario of the script's prototype is:
//
//	wake_sleeping     wakesAndTalks, notRungAsleep, wokenAfterUnregister, wokenByMPUSH
//	wake_unknown      unknownRegisters
//	live_and_sleeping liveAndSleeping      live_answers     liveAnswers
//	two_woken         twoWoken             both_answer      bothAnswer
//	busy_then_other   busyThenOther, busy, liveBusy
//	cancel_hold       cancelledAsleep      cancel_ringing   cancelledRinging
//	timeout           neverComes           ring_past_hold   ringsPastHold
//	give_up           deadTokens           give_up_busy     deadAndBusy
//	give_up_ringing   deadAndRinging       no_devices       noDevices
//	decline_603       declined             unregister       unregisters
//	rereg3            registersOften       rereg3_live      liveRegistersOften
//	stale_tcp         staleTCP             stale_tcp_twice  staleTCPTwice
//	message_hold      messageHeld          message_timeout  messageTimesOut
//	message_live      messageLive          register_caps    capabilities, askedCapabilities
//	ask_wake          TestKamailioAsksFirst
//	backend_down      TestInvariant8SIPNeverWaits, TestKamailioSurvivesRestart
//	backend_slow      TestInvariant8SIPNeverWaits
//	strip             TestInvariant7NothingLeaksThroughSIP
//	hostile_json      TestKamailioHostile
//	races             TestKamailioRaces
//	dmq_gone          signals (what of it needs one node only)

const (
	domain   = "example.com"
	patience = 60 * time.Second // until a scenario counts as stuck
	aged     = 250 * time.Millisecond
)

// kamailioRig is a rig whose node is a real Kamailio. Scenarios share it, each with
// users of its own.
type kamailioRig struct {
	*rig
	kamailio *stack.Kamailio
	users    *atomic.Int64
	tokens   *atomic.Int64
}

// needKamailio skips the test if there is no Kamailio, unless everything is
// required.
func needKamailio(t *testing.T) {
	t.Helper()
	if _, err := stack.Find("kamailio"); err != nil {
		if os.Getenv("SIPWAKE_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// newKamailioRig starts a sipwake and a Kamailio that know each other. Unless o says
// so, the parked leg outlives the last phone's return by a second. Both are patient
// with each other and with the push services: a slow machine decides nothing.
func newKamailioRig(t *testing.T, o rigOptions, c stack.KamailioConfig) *kamailioRig {
	t.Helper()
	needKamailio(t)
	if o.wake == "" {
		o.wake = "  settle: 1s"
	}
	o.rpc = "  deadline: 10s"
	r := newRig(t, o)
	k := &kamailioRig{rig: r, users: new(atomic.Int64), tokens: new(atomic.Int64)}
	defines := map[string]string{"SIPWAKE_RPC_MS": "10000"}
	maps.Copy(defines, c.Defines)
	c.URL, c.Defines = r.url, defines
	k.kamailio = startKamailio(t, c)
	// Before Kamailio ends: a signal under way is repeated until it is taken.
	t.Cleanup(func() { stop(t, r.app) })
	k.edit("    team_id:", "    timeout: 15s\n    call_timeout: 15s\n    team_id:")
	k.edit("    credentials_file:", "    timeout: 15s\n    call_timeout: 15s\n    credentials_file:")
	// Each needs the other's address first; the node comes by reload.
	k.edit(r.node.url(), k.kamailio.SignalURL())
	r.reload()
	return k
}

// kamailioAlone starts a Kamailio without a sipwake that works.
func kamailioAlone(t *testing.T, c stack.KamailioConfig) *kamailioRig {
	t.Helper()
	needKamailio(t)
	return &kamailioRig{rig: &rig{t: t}, kamailio: startKamailio(t, c), users: new(atomic.Int64), tokens: new(atomic.Int64)}
}

// startKamailio starts the node of a rig. See watchKamailio.
func startKamailio(t *testing.T, c stack.KamailioConfig) *stack.Kamailio {
	t.Helper()
	c.Node, c.Secret = nodeID, nodeSecret
	// A phone that closes its UDP socket sleeps at once, however new its registration.
	defines := map[string]string{"SIPWAKE_AWAKE_S": "0"}
	maps.Copy(defines, c.Defines)
	c.Defines = defines
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	k, err := stack.StartKamailio(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	watchKamailio(t, k)
	return k
}

// watchKamailio ends a node with the test, and sees then that it lived and never
// complained of a bug of its own. A node that the test has killed has said nothing.
func watchKamailio(t *testing.T, k *stack.Kamailio) {
	t.Cleanup(func() {
		select {
		case <-k.Exited():
			t.Error("Kamailio ended by itself")
		default:
		}
		log, err := os.ReadFile(k.Log())
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(log)) {
			for _, bad := range []string{"CRITICAL", "BUG", "by a signal", "no memory", "can't alloc"} {
				if strings.Contains(line, bad) {
					t.Errorf("Kamailio: %s", line)
				}
			}
		}
		if t.Failed() {
			t.Logf("the end of Kamailio's log:\n%s", k.LogTail())
		}
		k.Stop()
	})
}

// edit replaces a text in sipwake's configuration file.
func (k *kamailioRig) edit(from, to string) {
	k.t.Helper()
	text, err := os.ReadFile(k.file)
	if err != nil {
		k.t.Fatal(err)
	}
	if !strings.Contains(string(text), from) {
		k.t.Fatalf("no %q in the configuration", from)
	}
	k.write("sipwake.yml", strings.ReplaceAll(string(text), from, to))
}

// scenario is one user with phones, and one who calls.
type scenario struct {
	*kamailioRig
	t    *testing.T
	ctx  context.Context
	user string
	// callAt is the proxy of callers, if it is another one than that of the phones.
	callAt string
}

type scenarios map[string]func(*scenario)

// run runs scenarios side by side.
func (k *kamailioRig) run(t *testing.T, all scenarios) {
	for name, f := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(k.scenario(t))
		})
	}
}

func (k *kamailioRig) scenario(t *testing.T) *scenario {
	own := *k.rig
	own.t = t
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s := &scenario{t: t, ctx: ctx}
	s.kamailioRig = &kamailioRig{&own, k.kamailio, k.users, k.tokens}
	s.nextUser()
	return s
}

// nextUser goes on with another user.
func (s *scenario) nextUser() { s.user = fmt.Sprintf("user%d", s.users.Add(1)) }

func (s *scenario) aor() string { return s.user + "@" + domain }

// must returns a result without an error.
func must[T any](v T, err error) func(*scenario) T {
	return func(s *scenario) T {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
		return v
	}
}

// device is a phone with a push address.
type device struct {
	*phone.Phone
	token string
}

type option func(*phone.Config)

func tcp(c *phone.Config)     { c.Transport = phone.TCP }
func answers(c *phone.Config) { c.Behaviour = phone.Answer(0) }

// stubborn is a phone that pushes do not wake.
func stubborn(c *phone.Config) { c.WakeOn = func([]byte) bool { return false } }

func behaves(b phone.Behaviour) option { return func(c *phone.Config) { c.Behaviour = b } }
func params(text string) option        { return func(c *phone.Config) { c.ContactParams += text } }
func contact(value string) option      { return func(c *phone.Config) { c.Contact = value } }
func header(name, value string) option {
	return func(c *phone.Config) { c.Headers = map[string]string{name: value} }
}

// phone makes a phone of the scenario's user without push. Unless an option says so
// it rings and is not answered.
func (s *scenario) phone(options ...option) *phone.Phone {
	s.t.Helper()
	return s.phoneOf(s.user, options...)
}

func (s *scenario) phoneOf(user string, options ...option) *phone.Phone {
	s.t.Helper()
	c := phone.Config{User: user, Domain: domain, Proxy: s.kamailio.SIPAddress()}
	for _, set := range options {
		set(&c)
	}
	p := must(phone.New(c))(s)
	s.t.Cleanup(p.Close)
	return p
}

func (k *kamailioRig) newToken() string { return apnsToken(0x70000000 + int(k.tokens.Add(1))) }

// apnsParams are the parameters of an iPhone's Contact URI (RFC 8599).
func apnsParams(token string) string {
	return fmt.Sprintf(";pn-provider=apns;pn-param=%s.%s.voip;pn-prid=%s", team, bundle, token)
}

// iphone makes a phone that APNs reaches; it has not registered yet.
func (s *scenario) iphone(options ...option) *device {
	s.t.Helper()
	token := s.newToken()
	d := &device{s.phone(append([]option{params(apnsParams(token))}, options...)...), token}
	s.deliverAPNs(d)
	return d
}

// deliverAPNs has pushes to the device's token delivered, if there is an APNs.
func (s *scenario) deliverAPNs(d *device) {
	if s.apns != nil {
		s.apns.OnDeliver(d.token, func(payload []byte, _ http.Header) { d.OnPush(payload) })
	}
}

// android makes a phone that FCM reaches; its pushes are the data of the message.
func (s *scenario) android(options ...option) *device {
	s.t.Helper()
	token := "fcm-" + s.newToken()
	text := fmt.Sprintf(";pn-provider=fcm;pn-param=%s;pn-prid=%s", project, token)
	d := &device{s.phone(append([]option{params(text)}, options...)...), token}
	s.deliverFCM(d)
	return d
}

func (s *scenario) deliverFCM(d *device) {
	s.fcm.OnDeliver(d.token, func(m *fcmsim.Message) {
		data, err := json.Marshal(m.Data)
		if err != nil {
			data = nil
		}
		d.OnPush(data)
	})
}

// registered registers the phone.
func (s *scenario) registered(p *phone.Phone) {
	s.t.Helper()
	if m := must(p.Register(s.ctx, 600*time.Second))(s); m.Code() != 200 {
		s.t.Fatalf("REGISTER got %d", m.Code())
	}
}

// wakes registers the phone again on the flow it has, or on a new one if it slept.
func (s *scenario) wakes(d *device) {
	s.t.Helper()
	if m := must(d.Wake(s.ctx))(s); m.Code() != 200 {
		s.t.Fatalf("REGISTER got %d", m.Code())
	}
}

// falls lets registered devices fall asleep: their sockets are closed without a
// word, and sipwake takes none of them for awake.
func (s *scenario) falls(devices ...*device) {
	s.t.Helper()
	s.forgotten(len(devices))
	for _, d := range devices {
		d.Sleep()
	}
}

// asleep registers devices and lets them fall asleep.
func (s *scenario) asleep(devices ...*device) {
	s.t.Helper()
	for _, d := range devices {
		s.registered(d.Phone)
	}
	s.falls(devices...)
}

// forgotten waits until sipwake knows n devices of the user and takes none for
// awake any more.
func (s *scenario) forgotten(n int) {
	s.t.Helper()
	eventually(s.t, "bindings that are old enough", func() bool {
		at := s.bindingTimes()
		for _, a := range at {
			if time.Since(a) < aged {
				return false
			}
		}
		return len(at) >= n
	})
}

// reported waits until sipwake has been told of a REGISTER since then: Kamailio has
// rung by then whom it wanted to ring because of it.
func (s *scenario) reported(then time.Time) {
	s.t.Helper()
	eventually(s.t, "sipwake heard of the REGISTER", func() bool {
		for _, at := range s.bindingTimes() {
			if at.After(then) {
				return true
			}
		}
		return false
	})
}

func (s *scenario) bindingTimes() []time.Time {
	s.t.Helper()
	var res struct {
		Bindings []struct {
			Registered time.Time `json:"registered_at"`
		}
	}
	s.call("binding.list", obj{"aor": s.aor()}, &res)
	var at []time.Time
	for _, b := range res.Bindings {
		at = append(at, b.Registered)
	}
	return at
}

// call is a call to the scenario's user.
type call struct {
	*phone.Call
	s      *scenario
	caller *phone.Phone
}

// caller makes the phone of a stranger who calls.
func (s *scenario) caller(options ...option) *phone.Phone {
	s.t.Helper()
	if s.callAt != "" {
		options = append([]option{func(c *phone.Config) { c.Proxy = s.callAt }}, options...)
	}
	return s.phoneOf(fmt.Sprintf("caller%d", s.users.Add(1)), options...)
}

// calls has a stranger call the user.
func (s *scenario) calls() *call {
	s.t.Helper()
	return s.callsFrom(s.caller(), phone.InviteOptions{})
}

func (s *scenario) callsFrom(caller *phone.Phone, o phone.InviteOptions) *call {
	s.t.Helper()
	return &call{must(caller.Invite(s.ctx, s.user, o))(s), s, caller}
}

// ends waits for the caller's final answer.
func (c *call) ends(code int) phone.Result {
	c.s.t.Helper()
	res := must(c.Final(c.s.ctx))(c.s)
	if res.Code != code {
		if c.s.url != "" {
			c.s.t.Logf("%+v", *c.s.timeline(c.CallID()))
		}
		c.s.t.Fatalf("the caller got %d, want %d, after %s", res.Code, code, res.After)
	}
	return res
}

// talks waits until the callee has answered, then hangs up.
func (c *call) talks(callee *phone.Phone) {
	c.s.t.Helper()
	c.ends(200)
	if err := must(callee.WaitInvite(c.s.ctx))(c.s).Acked(c.s.ctx); err != nil {
		c.s.t.Fatal(err)
	}
	if m := must(c.Bye(c.s.ctx))(c.s); m.Code() != 200 {
		c.s.t.Errorf("BYE got %d", m.Code())
	}
	must(callee.WaitBye(c.s.ctx))(c.s)
}

// timeline is what sipwake saw of a held request.
type timeline struct {
	Outcome, Reason string
	Events          []struct{ Event, Device, Detail string }
}

// count tells how often something happened.
func (l *timeline) count(event string) int {
	n := 0
	for _, e := range l.Events {
		if e.Event == event {
			n++
		}
	}
	return n
}

// timeline returns that of a call, empty if there is none yet.
func (s *scenario) timeline(callID string) *timeline {
	s.t.Helper()
	var res struct{ Wakes []timeline }
	s.call("wake.trace", obj{"call_id": callID}, &res)
	switch len(res.Wakes) {
	case 0:
		return &timeline{}
	case 1:
		return &res.Wakes[0]
	}
	s.t.Fatalf("one call was held %d times: %+v", len(res.Wakes), res.Wakes)
	return nil
}

// happens waits until sipwake has noted an event of the call n times.
func (c *call) happens(event string, n int) {
	c.s.t.Helper()
	var l *timeline
	defer func() {
		if l.count(event) < n {
			c.s.t.Logf("only this happened: %+v", *l)
		}
	}()
	eventually(c.s.t, event, func() bool {
		l = c.s.timeline(c.CallID())
		return l.count(event) >= n
	})
}

// over waits until sipwake has been told how the call ended.
func (c *call) over(reason string) {
	c.s.t.Helper()
	c.s.over(c.CallID(), reason)
}

func (s *scenario) over(callID, reason string) {
	s.t.Helper()
	var l *timeline
	eventually(s.t, "told of the end", func() bool {
		l = s.timeline(callID)
		return l.Reason != ""
	})
	if l.Reason != reason || l.count("ended") != 1 {
		s.t.Errorf("ended as %q, want %q: %+v", l.Reason, reason, l)
	}
}

// cancels hangs up before the call is answered.
func (c *call) cancels() {
	c.s.t.Helper()
	if m := must(c.Cancel(c.s.ctx))(c.s); m.Code() != 200 {
		c.s.t.Errorf("CANCEL got %d", m.Code())
	}
	c.ends(487)
}

// pushed waits until a push has reached the device.
func (s *scenario) pushed(d *device) []byte {
	s.t.Helper()
	return must(d.Next(s.ctx, phone.GotPush))(s).Payload
}

// rung tells how many INVITEs reached a phone; it fails the test if it is another
// number.
func (s *scenario) rung(p *phone.Phone, n int) {
	s.t.Helper()
	if got := len(p.Requests("INVITE")); got != n {
		s.t.Errorf("%d INVITEs reached the phone, want %d: %v", got, n, p.Events())
	}
	for _, e := range p.Events() {
		if e.Kind == phone.GotInvite && e.Deaf {
			s.t.Error("the phone was rung while it slept")
		}
	}
}

// requests returns how many RPC requests there were, by method and error code; ""
// stands for any.
func (r *rig) requests(method, code string) int {
	r.t.Helper()
	_, text := r.get("/metrics")
	total := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "sipwake_rpc_requests_total{") ||
			method != "" && !strings.Contains(line, fmt.Sprintf("method=%q", method)) ||
			code != "" && !strings.Contains(line, fmt.Sprintf("code=%q", code)) {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			r.t.Fatal(err)
		}
		total += int(n)
	}
	return total
}

// gone accepts that a call was over before something could be done to it.
func gone(err error) bool { return errors.Is(err, phone.ErrNotUp) }

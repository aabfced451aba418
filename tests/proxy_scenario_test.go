package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/phone"
	"github.com/sipwake/sipwake/internal/lab/stack"
)

// scenario is one user with phones, and one who calls.
type scenario struct {
	*proxyRig
	t    *testing.T
	ctx  context.Context
	user string
	// callAt is the proxy of callers, if it is not that of the phones.
	callAt string
}

func (p *proxyRig) scenario(t *testing.T) *scenario {
	own := *p.rig
	own.t = t
	ctx, cancel := context.WithTimeout(t.Context(), scenarioTimeout)
	t.Cleanup(cancel)
	s := &scenario{t: t, ctx: ctx}
	s.proxyRig = &proxyRig{&own, p.kind, p.proxy, p.users, p.tokens, p.every}
	if g, ok := p.proxy.(interface{ PBX() *stack.Kamailio }); ok { // a gateway
		s.callAt, s.every = g.PBX().SIPAddress(), showsPassword
	}
	s.nextUser()
	return s
}

// nextUser continues with another user.
func (s *scenario) nextUser() { s.user = fmt.Sprintf("user%d", s.users.Add(1)) }

func (s *scenario) aor() string { return s.user + "@" + domain }

// must returns a result, and fails the test on an error.
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

// stubborn makes a phone that pushes do not wake.
func stubborn(c *phone.Config) { c.WakeOn = func([]byte) bool { return false } }

func behaves(b phone.Behaviour) option { return func(c *phone.Config) { c.Behaviour = b } }
func params(text string) option        { return func(c *phone.Config) { c.ContactParams += text } }
func contact(value string) option      { return func(c *phone.Config) { c.Contact = value } }
func header(name, value string) option {
	return func(c *phone.Config) { c.Headers = map[string]string{name: value} }
}

// phone creates a phone of the scenario's user without push. By default it rings and nobody
// answers.
func (s *scenario) phone(options ...option) *phone.Phone {
	s.t.Helper()
	return s.phoneOf(s.user, options...)
}

func (s *scenario) phoneOf(user string, options ...option) *phone.Phone {
	s.t.Helper()
	c := phone.Config{User: user, Domain: domain, Proxy: s.proxy.SIPAddress()}
	if s.every != nil {
		s.every(&c)
	}
	for _, set := range options {
		set(&c)
	}
	p := must(phone.New(c))(s)
	s.t.Cleanup(p.Close)
	return p
}

func (p *proxyRig) newToken() string { return apnsToken(0x70000000 + int(p.tokens.Add(1))) }

// apnsParams returns the parameters of an iPhone's Contact URI (RFC 8599).
func apnsParams(token string) string {
	return fmt.Sprintf(";pn-provider=apns;pn-param=%s.%s.voip;pn-prid=%s", team, bundle, token)
}

// iphone creates a phone that APNs reaches; it has not registered yet.
func (s *scenario) iphone(options ...option) *device {
	s.t.Helper()
	return s.iphoneOf(s.user, options...)
}

func (s *scenario) iphoneOf(user string, options ...option) *device {
	s.t.Helper()
	token := s.newToken()
	d := &device{s.phoneOf(user, append([]option{params(apnsParams(token))}, options...)...), token}
	s.deliverAPNs(d)
	return d
}

// deliverAPNs lets APNs, if there is one, deliver pushes to the device's token.
func (s *scenario) deliverAPNs(d *device) {
	if s.apns != nil {
		s.apns.OnDeliver(d.token, func(payload []byte, _ http.Header) { d.OnPush(payload) })
	}
}

// android creates a phone that FCM reaches; its pushes are the data of the message.
func (s *scenario) android(options ...option) *device {
	s.t.Helper()
	token := "fcm-" + s.newToken()
	leak.Secret(token)
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

// wakes registers the phone again, on its open flow or, if it slept, on a new one.
func (s *scenario) wakes(d *device) {
	s.t.Helper()
	if m := must(d.Wake(s.ctx))(s); m.Code() != 200 {
		s.t.Fatalf("REGISTER got %d", m.Code())
	}
}

// falls lets registered devices fall asleep: their sockets are closed without notice, and
// sipwake no longer considers them awake.
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

// forgotten waits until sipwake knows n devices of the user and considers none awake.
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

// reported waits until the proxy has reported a REGISTER to sipwake since then. By then the
// proxy has rung the phones that it rings because of this REGISTER.
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

// pushed waits until a push has reached the device.
func (s *scenario) pushed(d *device) []byte {
	s.t.Helper()
	return must(d.Next(s.ctx, phone.GotPush))(s).Payload
}

// rung counts the INVITEs that reached a phone, and fails the test if it is another number.
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

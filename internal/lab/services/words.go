package services

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/webpushsim"
	"github.com/sipwake/sipwake/internal/secret"
)

// Push is a push that a service received.
type Push struct {
	At      time.Time
	Service string
	Device  int    // number of the device, in the order of their first pushes, from 1; 0 if the push names none
	What    string // in words
	Answer  string // in words
	Payload string // without the token; empty if there is none or it could not be read
}

// String returns the push as one line, without the time and the payload.
func (p Push) String() string {
	device := "no device"
	if p.Device > 0 {
		device = fmt.Sprintf("device %d", p.Device)
	}
	return fmt.Sprintf("%s, %s: %s: %s", p.Service, device, p.What, p.Answer)
}

// maxPayload is the most of a payload that is kept, in bytes.
const maxPayload = 4096

// maxDevices is how many devices have their own number; all further ones share one.
const maxDevices = 10_000

// devices numbers the devices that were pushed, so that output need not show their
// tokens.
type devices struct {
	mu     sync.Mutex
	number map[string]int
	tokens []named
}

type named struct{ service, token string }

func (d *devices) add(service string, token secret.Token) int {
	text := token.Reveal()
	if text == "" {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := service + " " + text
	if n := d.number[key]; n > 0 {
		return n
	}
	if len(d.tokens) == maxDevices {
		return 0
	}
	if d.number == nil {
		d.number = make(map[string]int)
	}
	d.tokens = append(d.tokens, named{service, text})
	d.number[key] = len(d.tokens)
	return len(d.tokens)
}

// BehaveToDevice is BehaveTo for the device with this number in Push.
func (s *Services) BehaveToDevice(number int, name string) error {
	s.devices.mu.Lock()
	if number < 1 || number > len(s.devices.tokens) {
		n := len(s.devices.tokens)
		s.devices.mu.Unlock()
		return fmt.Errorf("no device %d, %d were pushed", number, n)
	}
	d := s.devices.tokens[number-1]
	s.devices.mu.Unlock()
	return s.BehaveTo(d.service, d.token, name)
}

func (s *Services) apple(tell func(Push)) func(apnssim.Push) {
	if tell == nil {
		return nil
	}
	return func(p apnssim.Push) {
		kind := p.PushType
		if kind == "" {
			kind = "untyped"
		}
		tell(Push{At: p.At, Service: APNs, Device: s.devices.add(APNs, p.Token),
			What:    fmt.Sprintf("%s push for topic %s, priority %s, %s", kind, orNone(p.Topic), orNone(p.Priority), expiry(p.Expiration)),
			Answer:  answered(p.Status, p.Reason),
			Payload: without(p.Token, string(p.Payload))})
	}
}

func expiry(header string) string {
	if header == "0" || header == "" {
		return "now or never"
	}
	return "kept for a while if the phone is off"
}

func (s *Services) google(tell func(Push)) func(fcmsim.Push) {
	if tell == nil {
		return nil
	}
	return func(p fcmsim.Push) {
		push := Push{At: p.At, Service: FCM, Device: s.devices.add(FCM, p.Token), What: "a message that could not be read",
			Answer: answered(p.Status, p.Code)}
		if m := p.Message; m != nil {
			push.What = "data message"
			if len(m.Notification) > 0 {
				push.What = "notification"
			}
			if a := m.Android; a != nil {
				push.What += fmt.Sprintf(", priority %s, kept for %s", orNone(a.Priority), orNone(a.TTL))
			}
			var data []string
			for name, value := range m.Data {
				data = append(data, fmt.Sprintf("%s=%q", name, value))
			}
			push.Payload = without(p.Token, sortedText(data))
		}
		tell(push)
	}
}

func (s *Services) browser(tell func(Push)) func(webpushsim.Push) {
	if tell == nil {
		return nil
	}
	return func(p webpushsim.Push) {
		push := Push{At: p.At, Service: WebPush, Device: s.devices.add(WebPush, p.Token), What: "a push that could not be read",
			Answer: answered(p.Status, p.Reason)}
		if m := p.Message; m != nil {
			push.What = fmt.Sprintf("push of urgency %s, kept for %d s", orNone(m.Urgency), m.TTL)
			push.Payload = without(p.Token, string(m.Payload))
		}
		tell(push)
	}
}

// answered describes the service's answer.
func answered(status int, reason string) string {
	switch {
	case status == 0:
		return "not answered"
	case status < 300:
		return "taken"
	case reason == "":
		return fmt.Sprintf("refused with %d", status)
	}
	return fmt.Sprintf("refused with %d %s", status, reason)
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return printable(text)
}

// without removes the token and control characters from a text.
func without(token secret.Token, text string) string {
	if t := token.Reveal(); t != "" {
		text = strings.ReplaceAll(text, t, "<token>")
	}
	if len(text) > maxPayload {
		text = text[:maxPayload] + "…"
	}
	return printable(text)
}

package tests

import (
	"encoding/json"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// holdTimeTable: scenarios that need the end of the hold time, which is 2 s here.
func holdTimeTable() table {
	c := proxyConfig{Hold: 2 * time.Second, ChatHold: 2 * time.Second, Refuse555: true}
	return table{name: "hold time", sipwake: rigOptions{wake: "  linger: 1m"}, proxy: c, scenarios: scenarios{
		"the phone never comes":              neverComes,
		"the phone rings past the hold time": ringsPastHold,
		"nobody comes for a message":         messageTimesOut,
		"555 by the proxy's own lists":       func(s *scenario) { capability(s, 555, nil, params(";pn-provider=bogus;pn-prid=x")) },
	}}
}

func neverComes(s *scenario) {
	d := s.iphone(stubborn, tcp)
	s.asleep(d)
	c := s.calls()
	// OpenSIPS counts whole seconds, of which the first may be short.
	if res := c.ends(480); res.After < time.Second {
		s.t.Errorf("the caller waited only %s", res.After)
	}
	c.over("timeout")
	s.pushed(d)
	s.rung(d.Phone, 0)
	s.wakes(d)
	s.hears(c, d.Phone, "")
}

func ringsPastHold(s *scenario) {
	d := s.iphone(behaves(phone.Answer(3 * time.Second)))
	s.asleep(d)
	c := s.calls()
	c.talks(d.Phone)
	c.over("answered")
}

func messageTimesOut(s *scenario) {
	d := s.android(stubborn)
	s.asleep(d)
	tx := s.texts("are you there?")
	if m := must(tx.Final(s.ctx))(s); m.Code() != 480 {
		s.t.Errorf("MESSAGE got %d", m.Code())
	}
	s.pushed(d)
}

// texts makes a stranger send the user a text.
func (s *scenario) texts(text string) *phone.Transaction {
	s.t.Helper()
	return must(s.caller().SendMessage(s.ctx, s.user, text, phone.MessageOptions{}))(s)
}

// messageTable: the outcomes of a MESSAGE.
func messageTable() table {
	return table{name: "messages", scenarios: scenarios{
		"a message wakes a sleeping phone over UDP": func(s *scenario) { messageHeld(s, s.android()) },
		"a message wakes a sleeping phone over TCP": func(s *scenario) { messageHeld(s, s.android(tcp)) },
		"a message to a live phone":                 messageLive,
		"a message to nobody": func(s *scenario) {
			if m := must(s.texts("hello").Final(s.ctx))(s); m.Code() != 480 {
				s.t.Errorf("MESSAGE got %d", m.Code())
			}
		},
	}}
}

func messageHeld(s *scenario, d *device) {
	const text = "Ahoj \"žlutý\" kůň 🐴\r\nsecond line \\ }"
	s.asleep(d)
	tx := s.texts(text)
	if m := must(tx.Final(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("MESSAGE got %d", m.Code())
	}
	var data map[string]string
	if err := json.Unmarshal(s.pushed(d), &data); err != nil || data["nmsg"] != text {
		s.t.Errorf("the push holds %q, %v", data["nmsg"], err)
	}
	got := d.Requests("MESSAGE")
	if len(got) != 1 || string(got[0].Body()) != text {
		s.t.Errorf("%d messages reached the phone: %v", len(got), d.Events())
	}
	s.over(must(d.WaitMessage(s.ctx))(s).CallID(), "answered")
}

func messageLive(s *scenario) {
	live := s.phone()
	s.registered(live)
	if m := must(s.texts("hello").Final(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("MESSAGE got %d", m.Code())
	}
	if got := live.Requests("MESSAGE"); len(got) != 1 || string(got[0].Body()) != "hello" {
		s.t.Errorf("%d messages reached the phone", len(got))
	}
}

package tests

import (
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// A phone that changes its network during a call registers from another address. Requests of
// the other side then reach it there.
func TestDialogMoves(t *testing.T) {
	t.Parallel()
	onEveryProxy(t, table{name: "dialog", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"over UDP": func(s *scenario) { movesInCall(s) },
		"over TCP": func(s *scenario) { movesInCall(s, tcp) },
		"it is gone": func(s *scenario) {
			d := s.iphone(answers, tcp)
			s.registered(d.Phone)
			c := s.calls()
			c.ends(200)
			must(d.Next(s.ctx, phone.GotAck))(s)
			d.Sleep()
			m := must(c.Bye(s.ctx))(s)
			if m.Code() != 500 && m.Code() != 504 {
				s.t.Errorf("BYE got %d, which ends more than the transaction", m.Code())
			}
		},
	}})
}

func movesInCall(s *scenario, options ...option) {
	d := s.iphone(append([]option{answers}, options...)...)
	s.registered(d.Phone)
	c := s.calls()
	c.ends(200)
	must(d.Next(s.ctx, phone.GotAck))(s)
	before := d.LocalAddr()
	d.Sleep()
	s.wakes(d)
	if d.LocalAddr() == before {
		s.t.Fatal("the phone has its old address")
	}
	if m := must(c.Bye(s.ctx))(s); m.Code() != 200 {
		s.t.Errorf("BYE got %d", m.Code())
	}
	must(d.WaitBye(s.ctx))(s)
}

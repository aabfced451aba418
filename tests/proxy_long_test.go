package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// TestField05LongTokens: a phone whose token has 4096 bytes is rung, woken and unregistered
// like any other.
func TestField05LongTokens(t *testing.T) {
	t.Parallel()
	long := func(s *scenario, options ...option) *phone.Phone {
		text := ";pn-provider=fcm;pn-param=" + project + ";pn-prid=" + strings.Repeat("a", 4090) + s.user
		return s.phone(append([]option{params(text), answers}, options...)...)
	}
	rings := func(options ...option) func(*scenario) {
		return func(s *scenario) {
			d := long(s, options...)
			m := must(d.Register(s.ctx, 600*time.Second))(s)
			if m.Code() != 200 || len(m.Headers("Feature-Caps")) != 1 {
				s.t.Errorf("REGISTER got\n%s", m.Raw)
			}
			s.forgotten(1)
			s.calls().talks(d)
			s.registered(d) // it is known
			s.forgotten(1)
			s.calls().talks(d)
			s.rung(d, 2)
			if m := must(d.Register(s.ctx, 0))(s); m.Code() != 200 {
				s.t.Errorf("un-REGISTER got %d", m.Code())
			}
		}
	}
	onEveryProxy(t, table{name: "long tokens", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: scenarios{
		"UDP": rings(), "TCP": rings(tcp),
	}})
}

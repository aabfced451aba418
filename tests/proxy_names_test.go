package tests

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// TestField07Names: all spellings of an address mean the same user.
func TestField07Names(t *testing.T) {
	t.Parallel()
	all := scenarios{}
	for name, c := range map[string]struct{ registers, called string }{
		"tel":                      {"+49301%d", "tel:USER"},
		"tel, phone-context":       {"49302%d", "tel:USER;phone-context=example.com"},
		"tel, visual separators":   {"+49303%d", "tel:+49-303.(%d)"},
		"escaped by the phone":     {"%%23%dx", "sip:#%dx@example.com"},
		"escaped by the caller":    {"*%dx", "sip:%%2a%dx@example.com"},
		"escaped by both, in case": {"%%2F%dx", "sip:%%2f%dx@example.com"},
		"a PBX, by address":        {"pbx%d", "sip:USER@PROXY"},
		"another domain":           {"far%d", "sip:USER@example.org"},
		"capital letters":          {"Bob%d", "sip:bOB%d@Example.COM"},
	} {
		all[name] = func(s *scenario) {
			n := s.users.Add(1)
			format := func(text string) string {
				if strings.Contains(text, "%") {
					text = strings.ReplaceAll(strings.ReplaceAll(text, "%d", strconv.FormatInt(n, 10)), "%%", "%")
				}
				return text
			}
			user := format(c.registers)
			called := strings.NewReplacer("USER", user, "PROXY", s.proxy.SIPAddress()).Replace(format(c.called))
			d := s.iphoneOf(user, answers, tcp)
			s.registered(d.Phone)
			d.Sleep()
			call := &call{must(s.caller().Invite(s.ctx, called, phone.InviteOptions{}))(s), s, nil}
			call.talks(d.Phone)
			s.rung(d.Phone, 1)
		}
	}
	onEveryProxy(t, table{name: "names", proxy: proxyConfig{Hold: 30 * time.Second}, scenarios: all})
}

package tests

import (
	"testing"
	"time"
)

// TestField10Rejected: REGISTERs that the registrar refuses take the binding with
// them, if that is wanted; those of another phone do not.
func TestField10Rejected(t *testing.T) {
	t.Parallel()
	const place = "\t\troute(SIPWAKE_REGISTER);\n"
	kind := kamailioWith(t, place,
		"\t\tif ($hdr(X-Refuse) != $null) {\n\t\t\troute(SIPWAKE_REJECTED);\n\t\t\tsl_send_reply(\"403\", \"Forbidden\");\n\t\t\texit;\n\t\t}\n"+place)
	tb := table{name: "rejected", sipwake: rigOptions{wake: "  remove: {register_rejected: 2}"}, proxy: proxyConfig{Hold: 30 * time.Second}}
	s := tb.start(t, kind).scenario(t)
	refused := func(token string) {
		t.Helper()
		p := s.phone(params(apnsParams(token)), header("X-Refuse", "yes"))
		for range 2 {
			if m := must(p.Register(s.ctx, time.Minute))(s); m.Code() != 403 {
				t.Errorf("REGISTER got %d", m.Code())
			}
		}
	}
	d := s.iphone(tcp)
	s.registered(d.Phone)
	refused(s.newToken())
	eventually(t, "sipwake is told of both", func() bool { return s.requests("binding.rejected", "") == 2 })
	if n := s.bindings(s.aor()); n != 1 {
		t.Errorf("%d bindings after REGISTERs of another phone, want 1", n)
	}
	refused(d.token)
	eventually(t, "the binding is gone", func() bool { return s.bindings(s.aor()) == 0 })
}

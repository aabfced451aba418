package bench

import (
	"bytes"
	"fmt"
	"strings"
)

// token returns the push token of the n-th user: of 64 digits, like Apple's, or of 140.
func token(n, digits int) string {
	return strings.Repeat("5", digits-64) + fmt.Sprintf("%064x", n+0xabc0000)
}

// register returns a function for REGISTERs of users, from number first on. Consecutive
// REGISTERs are of users that are far apart.
func (b *bench) register(first, users int) func(n int) []byte {
	return b.registerToken(first, users, 64)
}

func (b *bench) registerToken(first, users, digits int) func(n int) []byte {
	return func(n int) []byte {
		user := first + n*7919%users
		cseq := b.seq.Add(1)
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"binding.register","params":{"node":"%s","aor":"user%d@example.com",`+
			`"contact":"<sip:user%d@192.0.2.7:5070;pn-provider=apns;pn-param=%s.%s.voip;pn-prid=%s>;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-%012x>\"",`+
			`"call_id":"register-%d","cseq":%d,"expires":7200,"source":"tls:192.0.2.7:5070","user_agent":"phone/1"}}`,
			n, node, user, user, team, bundle, token(user, digits), user, user, cseq)
	}
}

// start returns the n-th call of a caller, to one of the users that only he calls.
func start(caller, n int) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"wake.start","params":{"node":"%s","aor":"user%d@example.com","call_id":"call-%d-%d",`+
		`"call":"%d-%d","kind":"call","from":"sip:caller%d@example.com","display":"Alice","hold_s":30}}`,
		node, caller*callees+n%callees, caller, n, caller, n, caller)
}

// end returns the end of that call.
func end(caller, n int) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"wake.end","params":{"node":"%s","aor":"user%d@example.com","call":"%d-%d","reason":"answered"}}`,
		node, caller*callees+n%callees, caller, n)
}

func accepted(answer []byte) error {
	if bytes.Contains(answer, []byte(`"error"`)) {
		return fmt.Errorf("refused: %.200s", answer)
	}
	return nil
}

func pushing(answer []byte) error {
	if !bytes.Contains(answer, []byte(`"pushing"`)) {
		return fmt.Errorf("no push: %.200s", answer)
	}
	return nil
}

func anything([]byte) error { return nil }

package wake_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/wake"
)

func TestCaller(t *testing.T) {
	f := func(from, want string) {
		t.Helper()
		if got := wake.CallerOf(from); got != want {
			t.Errorf("%q is %q, want %q", from, got, want)
		}
	}
	f("sip:Alice@Example.com;user=phone", "alice@example.com")
	f("sips:alice@example.com", "alice@example.com")
	f("alice@example.com", "alice@example.com")
	f("tel:+420123456", "+420123456")
	f("sip:192.0.2.1", "192.0.2.1")
	f("sip:"+strings.Repeat("x", 1000), strings.Repeat("x", 255))
	f("", "")
	f("sip:anonymous@anonymous.invalid", "")
	f("sip:x@anonymous.invalid", "")
	f("sip:Anonymous@gateway.example.com", "")
	f("sip:unknown@gateway.example.com", "")
	f("sip:", "")
	f("sip:alice:p7@example.com:5062;x=y?a=b", "alice@example.com")
	f("sip:%61lice;cpc=ordinary@EXAMPLE.com", "alice@example.com")
}

// An AOR is the same however it is written: see package sipuri.
func TestCleanAOR(t *testing.T) {
	f := func(aor, want, problem string) {
		t.Helper()
		got, err := wake.CleanAOR(aor)
		bad := (*wake.ParamError)(nil)
		if got != want || (problem == "") != (err == nil) || err != nil && (!errors.As(err, &bad) || bad.Field != "aor" || bad.Problem != problem) {
			t.Errorf("%q is %q, %v, want %q, %s", aor, got, err, want, problem)
		}
	}
	f("sip:1234%23X@Example.com:5060", "1234#x@example.com", "")
	f("1234#x@example.com", "1234#x@example.com", "")
	f("tel:+49-30-1;phone-context=example.com", "+49301@example.com", "")
	f("bob@192.0.2.1", "bob@192.0.2.1", "")
	f(strings.Repeat("%61", 243)+"@example.com", strings.Repeat("a", 243)+"@example.com", "")
	f(strings.Repeat("a", 244)+"@example.com", "", "is longer than 255 bytes")
	f("", "", "is missing")
	f("bob@", "", "has no domain")
	f("bob smith@x", "", "has a character that an address-of-record cannot have")
}

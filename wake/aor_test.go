package wake_test

import (
	"strings"
	"testing"

	"github.com/sipwake/sipwake/wake"
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
	f(";;;@@:", "")
}

package node

import (
	"testing"

	"github.com/sipwake/sipwake/internal/wake"
)

// What a caller says of himself cannot make a header of its own.
func TestFrom(t *testing.T) {
	f := func(uri, display, want string) {
		t.Helper()
		if got := From(wake.Wake{From: uri, Display: display}); got != want {
			t.Errorf("%q %q: %q, want %q", uri, display, got, want)
		}
	}
	f("sip:alice@example.com", "", "<sip:alice@example.com>")
	f("sip:alice@example.com;user=phone", "Alice Ä", `"Alice Ä" <sip:alice@example.com;user=phone>`)
	f("sip:alice@example.com", "A\"\r\nX: y\\", `"A\"X: y\\" <sip:alice@example.com>`)
	f("sip:a>,<sip:b", "", "<sip:anonymous@anonymous.invalid>")
	f("sip:a\r\nX: y@b", "", "<sip:anonymous@anonymous.invalid>")
	f("http://example.com", "", "<sip:anonymous@anonymous.invalid>")
	f("", "", "<sip:anonymous@anonymous.invalid>")
}

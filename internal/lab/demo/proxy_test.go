package demo

import "testing"

// Nothing is started for a proxy that there is not.
func TestUnknownProxy(t *testing.T) {
	c := Demo{Sipwake: "no such program", Proxy: "asterisk", Store: "local"}
	const want = `no SIP proxy "asterisk", there is: kamailio, opensips`
	if err := c.Run(t.Context()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

//go:build !race

package pnparam

import "testing"

// TestAllocations holds what the Contact of a REGISTER costs.
func TestAllocations(t *testing.T) {
	r := Register{Contact: "<sip:bob@192.0.2.7:5060;transport=tls;pn-provider=apns;pn-param=ABCDE12345.com.example.phone.voip;pn-prid=" + hex1 +
		">;expires=3600;+sip.instance=\"<" + instance + ">\""}
	var p Parsed
	f := func(what string, most float64, do func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, do); n > most {
			t.Errorf("%s: %v allocations, %v are allowed", what, n, most)
		}
	}
	f("Parse", 1, func() {
		var err error
		if p, err = Parse(r); err != nil {
			t.Fatal(err)
		}
	})
	f("Saved", 2, func() {
		if Saved(r, p, "bob@example.com") == "" {
			t.Fatal("nothing to save")
		}
	})
}

package pnparam_test

import (
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/pnparam"
)

func TestInstance(t *testing.T) {
	f := func(want string, spellings ...string) {
		t.Helper()
		for _, s := range spellings {
			if got := pnparam.Instance(s); got != want {
				t.Errorf("Instance(%q) is %q, want %q", s, got, want)
			}
		}
	}
	const id = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
	f(id, id, "<"+id+">", `"<`+id+`>"`, `"`+id+`"`, " "+id+" ", "URN:UUID:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
		"urn%3Auuid%3af81d4fae-7dec-11d0-a765-00a0c91e6bf6", "%3C"+id+"%3e", "%22%3C"+id+"%3E%22", "%75rn:uuid:%66"+id[10:],
		`"<urn:uuid:f81d4fae\-7dec-11d0-a765-00a0c91e6bf6>"`)
	f("urn:gsma:imei:90420156-025763-0", "urn:GSMA:imei:90420156-025763-0", "<URN:gsma:imei:90420156-025763-0>")
	f("urn:x:Abc", "urn:X:Abc")
	f("urn:x:abc", "urn:X:abc")
	f("urn:x:", "urn:x")
	f("no", "no", "<no>")
	f("100%", "100%")
	f("", "", "<>", `""`, " ", "a b", "a\x00", "é", "a%00", "a%20b", strings.Repeat("a", pnparam.MaxInstance+1))
	f(strings.Repeat("a", pnparam.MaxInstance), strings.Repeat("%61", pnparam.MaxInstance), strings.Repeat("a", pnparam.MaxInstance))
	f("", strings.Repeat("%61", 4000))
}

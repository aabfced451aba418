package rpc

import (
	"encoding/json"
	"testing"

	"github.com/sipwake/sipwake/internal/wake"
)

// FuzzResults: the results that write themselves are what encoding/json makes of them,
// byte for byte.
func FuzzResults(f *testing.F) {
	f.Add("refreshed", `"<sip:a@b;x=1>;y=\"z\""`, "a\x00\x1f\x7f\u2028\u2029\xff\b\f\n\r\t&é😀", 200, true)
	f.Add("", "", "", -1, false)
	f.Fuzz(func(t *testing.T, a, b, c string, n int, yes bool) {
		for _, r := range []appender{
			registerResult{Status: wake.Status(a), Code: n, MinExpires: n / 3, FeatureCaps: []string{b, c}[:len(a)%3], Devices: n, Wakes: -n, Sleeps: yes, Contact: b, Problem: c},
			startResult{wake.Outcome(a), n, -n, yes, b, a},
			endResult{yes},
			progressResult{yes},
		} {
			want, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.appendJSON(nil); string(got) != string(want) {
				t.Errorf("%+v is written %q, want %q", r, got, want)
			}
		}
		if got, err := json.Marshal(c); err != nil || string(got) != string(appendText(nil, []byte(c))) {
			t.Errorf("%q is written %q, want %q", c, appendText(nil, []byte(c)), got)
		}
	})
}

package upper

import (
	"fmt"
	"time"
)

// attempt is one REGISTER of a refresh: all that an instance needs to continue with
// the response.
type attempt struct {
	try  int    // 1 has no credentials
	cseq uint32 // grows with time, so no instance has to remember it
	ends bool   // it ends the registration
}

// epoch is the start of CSeq numbers: at four per second, they fit into 31 bits
// until 2042.
const epoch = 1_767_225_600 // 2026-01-01

func cseqAt(t time.Time) uint32 { return uint32(t.Unix()-epoch) * 4 }

func newAttempt() attempt { return attempt{try: 1, cseq: cseqAt(time.Now())} }

// overtaken reports whether the PBX accepted a REGISTER of the user after this
// attempt began, to the second.
func (k attempt) overtaken(u *Registration) bool { return int32(cseqAt(u.LastOK)-k.cseq) > 0 } //nolint:gosec // serial numbers wrap

func (k attempt) String() string {
	what := "r"
	if k.ends {
		what = "e"
	}
	return fmt.Sprintf("%s%d-%d", what, k.try, k.cseq)
}

func parseAttempt(s string) (k attempt, ok bool) {
	var what rune
	if n, err := fmt.Sscanf(s, "%c%d-%d", &what, &k.try, &k.cseq); err != nil || n != 3 || k.try < 1 || k.try > 3 {
		return attempt{}, false
	}
	k.ends = what == 'e'
	return k, what == 'e' || what == 'r'
}

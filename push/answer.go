package push

import (
	"fmt"
	"strconv"
)

// About is what an answer of a push service speaks of. It decides whom the
// answer concerns beside the push that got it.
type About string

// What an answer may be about.
const (
	AboutPush       About = "push"       // this payload or its headers: no other push
	AboutToken      About = "token"      // this device
	AboutPlatform   About = "platform"   // a credential that the service keeps for one platform: that platform
	AboutCredential About = "credential" // our key, certificate or account: every push of the app
	AboutConnection About = "connection" // this connection: another one helps
	AboutService    About = "service"    // the push service itself: every push of the app, if it lasts
)

// Abouts lists every About.
func Abouts() []About {
	return []About{AboutPush, AboutToken, AboutPlatform, AboutCredential, AboutConnection, AboutService}
}

// Answer is what follows from some of the answers of a push service.
type Answer struct {
	// Said are the answers, each one of
	//
	//	403 BadCertificate   this status with this word of the service's own
	//	BadCertificate       the word with any status
	//	403 *                the status with a word that is not in the table
	//	403                  the status with any other word, or none
	//	4xx                  all of the class
	//	*                    everything else
	//
	// The first in this order that fits counts.
	Said   []string
	About  About
	Reason Reason
}

// Answers looks up what follows from a push service's answer. It never changes.
type Answers struct{ bySaid map[string]Answer }

// NewAnswers makes Answers of a table, which must say each thing once, and have
// "*".
func NewAnswers(table []Answer) Answers {
	a := Answers{make(map[string]Answer)}
	for _, row := range table {
		for _, said := range row.Said {
			if _, twice := a.bySaid[said]; twice {
				panic(fmt.Sprintf("BUG: the table of answers has %q twice", said))
			}
			a.bySaid[said] = row
		}
	}
	if _, ok := a.bySaid["*"]; !ok {
		panic("BUG: the table of answers has nothing for everything else")
	}
	return a
}

// Find returns what follows from a status and the service's word for it, which is
// empty if there was none.
func (a Answers) Find(status int, word string) Answer {
	code := strconv.Itoa(status)
	keys := [...]string{code + " " + word, word, code + " *", code, code[:1] + "xx", "*"}
	from := 0
	if word == "" {
		from = 3
	}
	for _, key := range keys[from:] {
		if row, ok := a.bySaid[key]; ok {
			return row
		}
	}
	panic("BUG: answers that were not made by NewAnswers")
}

// about is what the reply speaks of. Where no service has spoken, it is what the
// reason does, or nothing.
func (r *Reply) about() About {
	switch {
	case r.About != "":
		return r.About
	case r.Reason == Credential:
		return AboutCredential
	case r.Reason == Unavailable, r.Reason == Timeout:
		return AboutService
	}
	return ""
}

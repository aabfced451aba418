package push

import (
	"fmt"
	"strconv"
)

// About is the subject of a push service's answer. It decides who else is affected
// beside the push that got the answer.
type About string

// What an answer may be about.
const (
	AboutPush       About = "push"       // this payload or its headers: no other push
	AboutToken      About = "token"      // this device
	AboutPlatform   About = "platform"   // a credential that the service keeps for one platform: that platform
	AboutCredential About = "credential" // our key, certificate or account: every push of the app
	AboutConnection About = "connection" // this connection: another one may work
	AboutService    About = "service"    // the push service itself: every push of the app, if it persists
)

// Abouts lists every About.
func Abouts() []About {
	return []About{AboutPush, AboutToken, AboutPlatform, AboutCredential, AboutConnection, AboutService}
}

// Answer is what follows from some of a push service's answers.
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
	// The first match in this order wins.
	Said   []string
	About  About
	Reason Reason
}

// Answers maps a push service's answers to their meaning. It is immutable.
type Answers struct{ bySaid map[string]Answer }

// NewAnswers builds Answers from a table. The table must have each entry once, and
// must have "*".
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

// Find returns what follows from a status and the service's error code, which is
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

// about returns the subject of the reply. If no service has answered, it derives it
// from the reason, or returns "".
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

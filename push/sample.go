package push

import (
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

func sampleToken() secret.Token { return secret.NewToken("0123456789abcdef") }

// SampleValues returns every value that a push can have, for testing templates.
func SampleValues() Values {
	return Values{
		AOR: "bob@example.com", From: "sip:alice@example.com", User: "alice", Display: "Alice Example",
		CallID: "a84b4c76e66710@pc33.example.com", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Media: "video",
		Title: "News", Body: "Lunch at noon?", Data: map[string]string{"key": "value"},
		Called: "+4420", CalledURI: "sip:+4420@example.com", Verstat: "TN-Validation-Passed",
		Headers: map[string]string{"x-account": "4711", "call-info": "<https://example.com/alice.png>;purpose=icon"},
	}
}

// HostileValues returns the values of a caller who tries to break or inject into the
// payload, with long texts.
func HostileValues() Values {
	v := SampleValues()
	v.Display = `","aps":{"alert":"owned"},"x":"` + "\x00\r\n\u2028\xff\xfe{TOKEN}\\"
	v.User = `alice"}]}`
	v.Title = v.Display
	v.Body = strings.Repeat("😀\"\\\x01", 3000)
	v.Data = map[string]string{`"},"aps":{`: "\xff", "aps": `{"alert":"owned"}`, "ntype": "9", "token": "{TOKEN}"}
	return v
}

// of returns the values that a push of the kind has: a call has no text of its own,
// and only push.send has a title.
func (v Values) of(kind Kind) Values {
	switch kind {
	case Call, Cancel:
		v.Title, v.Body, v.Data = "", "", nil
	case Chat:
		v.Title, v.Data, v.Media = "", nil, ""
	case Custom:
		v.CallID, v.Media = "", ""
	case Refresh:
		v = Values{AOR: v.AOR}
	}
	return v
}

package phone

import (
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const twoMessages = "\r\n\r\nMESSAGE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK1\r\nl: 9\r\n\r\nline\r\n\r\n." +
	"SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK2\r\nCSeq: 7 BYE\r\nContent-Length: 0\r\n\r\n\r\n"

func TestFramerCutsAtAnyRead(t *testing.T) {
	stream := iotest.OneByteReader(strings.NewReader(twoMessages))
	var s framer
	var got []*Message
	for {
		raw, err := s.next()
		if err != nil {
			t.Fatal(err)
		}
		if raw != nil {
			m, err := parseMessage(raw)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
			continue
		}
		if s.fill(stream) != nil {
			break
		}
	}
	if len(got) != 2 {
		t.Fatalf("%d messages, want 2", len(got))
	}
	if m := got[0]; m.Method() != "MESSAGE" || m.URI() != "sip:a@b" || string(m.Body()) != "line\r\n\r\n." || m.Branch() != "z9hG4bK1" {
		t.Errorf("first message: %q", m.Raw)
	}
	if m := got[1]; m.Code() != 200 || m.Method() != "BYE" || m.CSeq() != 7 || m.URI() != "" {
		t.Errorf("second message: %q", m.Raw)
	}
}

func TestFramerRefusesWhatIsTooLarge(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", maxStream+1), "A b SIP/2.0\r\nContent-Length: 99999999\r\n\r\n"} {
		s := framer{buf: []byte(text)}
		if _, err := s.next(); err == nil {
			t.Errorf("no error for %.20q", text)
		}
	}
}

func TestHeaderParts(t *testing.T) {
	if got := param(`"x;tag=fake" <sip:a@b;tag=uri>; TAG = right ;x`, "tag"); got != "right" {
		t.Errorf("tag %q", got)
	}
	if got := addressURI(`"<sip:x@y>" <sip:a@b;p=1>;q=1`); got != "sip:a@b;p=1" {
		t.Errorf("URI %q", got)
	}
	if got := addressURI("sip:a@b;tag=1"); got != "sip:a@b" {
		t.Errorf("URI %q", got)
	}
	got := splitList([]string{`"a, \"b" <sip:x,y@z>, <sip:c@d>`, "<sip:e@f>"})
	if want := []string{`"a, \"b" <sip:x,y@z>`, "<sip:c@d>", "<sip:e@f>"}; !slices.Equal(got, want) {
		t.Errorf("list %q, want %q", got, want)
	}
}

// FuzzStream: whatever comes in, messages are cut out of it in order, none is
// empty, and each can be asked for everything.
func FuzzStream(f *testing.F) {
	f.Add(twoMessages)
	f.Add("INVITE sip:a@b SIP/2.0\r\nFrom: \"\xff\x00\r\nContent-Length: -1\r\n\r\n")
	f.Add("SIP/2.0 200\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := framer{buf: []byte(text)}
		rest := text
		for {
			raw, err := s.next()
			if err != nil || raw == nil {
				return
			}
			i := strings.Index(rest, string(raw))
			if len(raw) == 0 || i < 0 || strings.Trim(rest[:i], "\r\n") != "" {
				t.Fatalf("cut %q out of %q", raw, rest)
			}
			rest = rest[i+len(raw):]
			m, err := parseMessage(raw)
			if err != nil {
				continue
			}
			if (m.Code() == 0) == (m.URI() == "") {
				t.Errorf("neither a request nor a response, or both: %q", m.Raw)
			}
			_, _, _, _ = m.Branch(), m.CSeq(), m.CallID(), m.Body()
			splitList(m.Headers("Record-Route"))
			responseText(m, 200, "t", "", nil, nil)
		}
	})
}

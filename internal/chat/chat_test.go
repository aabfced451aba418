package chat

import (
	"strings"
	"testing"
	"unicode/utf8"
)

const imdn = "<?xml version=\"1.0\"?><imdn xmlns=\"urn:ietf:params:xml:ns:imdn\"><message-id>34</message-id></imdn>"

// cpim wraps a content as RFC 3862 does.
func cpim(headers, content string) string {
	return "From: <sip:alice@example.com>\r\nTo: <sip:bob@example.com>\r\nDateTime: 2026-11-28T10:00:00Z\r\n" +
		"NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 34\r\nimdn.Disposition-Notification: positive-delivery, display\r\n\r\n" +
		headers + "\r\n" + content
}

func TestRead(t *testing.T) {
	f := func(contentType, priority, body, text string, wanted bool) {
		t.Helper()
		if got, ok := Read(contentType, priority, body); got != text || ok != wanted {
			t.Errorf("%q %q %.80q: %q, %v, want %q, %v", contentType, priority, body, got, ok, text, wanted)
		}
	}
	shown := func(contentType, body, text string) { t.Helper(); f(contentType, "", body, text, true) }
	unread := func(contentType, priority, body string) { t.Helper(); f(contentType, priority, body, "", false) }

	shown("text/plain", "Hello", "Hello")
	shown("Text/Plain ; charset=UTF-8", "Grüße\r\n", "Grüße")
	shown("text/plain;charset=iso-8859-1", "Gr\xfc\xdfe", "Grüße")
	shown("text/plain;charset=", "Hello", "Hello")
	shown("text/plain", "a\xffb", "a?b")
	shown("text/html", "<b>Hello</b>", "")
	shown("application/vnd.gsma.rcs-ft-http+xml", "<file/>", "")
	shown("multipart/encrypted;boundary=x", "--x", "")
	shown("", "", "")
	shown("message/cpim", cpim("Content-Type: text/plain; charset=UTF-8\r\nContent-Length: 5\r\n", "Hello"), "Hello")
	shown("Message/CPIM; x=y", cpim("Subject: x\r\ncontent-type:text/plain;\r\n charset=utf-8\r\n", "Hello\r\n\r\nthere"), "Hello\r\n\r\nthere")
	shown("message/cpim", strings.ReplaceAll(cpim("Content-Type: text/plain\r\n", "Hello"), "\r\n", "\n"), "Hello")
	shown("message/cpim", cpim("", "Hello"), "Hello")
	shown("message/cpim", cpim("Content-Type: image/png\r\n", "\x89PNG"), "")
	shown("message/cpim", cpim("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n", "SGVsbG8="), "")
	shown("message/cpim", cpim("Content-Type: text/plain\r\nContent-Type: message/imdn+xml\r\n", "Hello"), "Hello")
	shown("message/cpim", cpim("Content-Type: message/cpim\r\n", cpim("", "x")), "")
	shown("message/cpim", "", "")
	shown("message/cpim", "From: x", "")
	f("text/plain", "urgent", "Hello", "Hello", true)
	f("text/plain", "normal", "Hello", "Hello", true)

	unread("message/imdn+xml", "", imdn)
	unread("Message/IMDN+xml; charset=UTF-8", "", imdn)
	unread("application/im-iscomposing+xml", "", "<isComposing/>")
	unread("application/im-iscomposing+xml;bad;;=", "", "<isComposing/>")
	unread("message/cpim", "", cpim("Content-Type: message/imdn+xml\r\nContent-Disposition: notification\r\n", imdn))
	unread("message/cpim", "", cpim("CONTENT-TYPE : application/im-iscomposing+xml\r\n", "<isComposing/>"))
	unread("message/cpim", "", strings.ReplaceAll(cpim("Content-Type:\r\n\tmessage/imdn+xml\r\n", imdn), "\r\n", "\n"))
	unread("text/plain", "non-urgent", "Hello")
	unread("text/plain", " Non-Urgent ", "Hello")
	unread("message/cpim", "non-urgent", cpim("Content-Type: text/plain\r\n", "Hello"))
}

// A text is cut between characters.
func TestReadLong(t *testing.T) {
	for _, char := range []string{"a", "ß", "€", "😀", "\xff", "\x80"} {
		for shift := range 4 {
			text, _ := Read("text/plain", "", strings.Repeat("x", shift)+strings.Repeat(char, 3*MaxText))
			if len(text) > MaxText || len(text) <= MaxText-utf8.UTFMax && utf8.ValidString(char) || !utf8.ValidString(text) ||
				utf8.ValidString(char) && strings.Trim(text, "x"+char) != "" {
				t.Errorf("%q, %d: %d bytes that end in %q", char, shift, len(text), text[len(text)-4:])
			}
		}
	}
	if text, _ := Read("text/plain;charset=ISO-8859-1", "", strings.Repeat("\xfc", 3*MaxText)); len(text) != MaxText {
		t.Errorf("%d bytes", len(text))
	}
}

func FuzzRead(f *testing.F) {
	f.Add("text/plain", "", "Hello")
	f.Add("message/cpim", "normal", cpim("Content-Type: text/plain;\r\n charset=iso-8859-1\r\n", "Gr\xfc\xdfe"))
	f.Add("message/cpim;", "non-urgent", "\n\n\n")
	f.Fuzz(func(t *testing.T, contentType, priority, body string) {
		text, wanted := Read(contentType, priority, body)
		if len(text) > MaxText || !utf8.ValidString(text) || !wanted && text != "" {
			t.Fatalf("%d bytes %q, %v", len(text), text, wanted)
		}
	})
}

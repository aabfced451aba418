// Package chat reads a SIP MESSAGE (RFC 3428) for a push: whether a person reads the
// message, and which text to show. It does no I/O and accepts any input.
package chat

import (
	"mime"
	"strings"
	"unicode/utf8"
)

// MaxText is the longest text of a push, in bytes.
const MaxText = 4000

// Read reads the raw Content-Type, Priority and body of a MESSAGE. wanted is false if
// the message should wake nobody: a delivery report (RFC 5438) or an is-composing
// notice (RFC 3994), also inside message/cpim (RFC 3862), or a message that its sender
// marked non-urgent (RFC 3261 section 20.26).
//
// text is that of text/plain, also inside message/cpim: valid UTF-8 of at most MaxText
// bytes, not cut inside a character. It is empty for other content types.
func Read(contentType, priority, body string) (text string, wanted bool) {
	if strings.EqualFold(strings.TrimSpace(priority), "non-urgent") {
		return "", false
	}
	kind, params := mediaType(contentType)
	if kind == "message/cpim" {
		kind, params, body = openCPIM(body)
	}
	switch kind {
	case "message/imdn+xml", "message/imdn", "application/im-iscomposing+xml", "application/im-iscomposing":
		return "", false
	case "text/plain":
		return plainText(body, params["charset"]), true
	}
	return "", true
}

// openCPIM returns the content of a message/cpim: the headers of the message, an
// empty line, those of the content, an empty line, the content.
func openCPIM(body string) (kind string, params map[string]string, content string) {
	_, rest := cutHeaders(body)
	headers, content := cutHeaders(rest)
	if headers["content-type"] == "" {
		return "text/plain", nil, content // RFC 2045 section 5.2
	}
	kind, params = mediaType(headers["content-type"])
	switch strings.ToLower(headers["content-transfer-encoding"]) {
	case "", "7bit", "8bit", "binary":
		return kind, params, content
	}
	return kind, params, "" // another encoding: no client uses one
}

// cutHeaders splits s into header fields and what follows the empty line after them. Of
// fields with the same name the first counts.
func cutHeaders(s string) (fields map[string]string, rest string) {
	fields = make(map[string]string)
	last, more := "", true
	for more {
		var line string
		line, s, more = strings.Cut(s, "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' { // a folded line
			fields[last] += " " + strings.TrimSpace(line)
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		last = strings.ToLower(strings.TrimSpace(name))
		if _, known := fields[last]; known {
			last = ""
		}
		fields[last] = strings.TrimSpace(value)
	}
	return fields, s
}

func mediaType(s string) (kind string, params map[string]string) {
	kind, params, err := mime.ParseMediaType(s)
	if err != nil { // use the type even if the parameters are malformed
		kind, _, _ = strings.Cut(s, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	return kind, params
}

// plainText returns the text in UTF-8, cut to MaxText.
func plainText(body, charset string) string {
	body = strings.TrimSpace(body)
	if len(body) > 2*MaxText {
		body = body[:2*MaxText] // below, each byte becomes one or two bytes, or is dropped
	}
	if strings.EqualFold(charset, "iso-8859-1") {
		runes := make([]rune, len(body))
		for i := range len(body) {
			runes[i] = rune(body[i])
		}
		body = string(runes)
	}
	cut := len(body) > MaxText
	if cut {
		body = body[:MaxText]
		for n := 1; n < utf8.UTFMax && n <= len(body); n++ { // the start of a character
			if b := body[len(body)-n]; utf8.RuneStart(b) {
				if !utf8.FullRuneInString(body[len(body)-n:]) {
					body = body[:len(body)-n]
				}
				break
			}
		}
	}
	return strings.ToValidUTF8(body, "?")
}

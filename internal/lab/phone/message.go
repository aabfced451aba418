package phone

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// parser leaves every header as text: malformed headers must be recorded and echoed
// unchanged, not refused. It is never changed.
var parser = sip.NewParser(sip.WithHeadersParsers(sip.HeadersParser{}))

// Message is a SIP message as received. It is never changed, and safe for concurrent use.
type Message struct {
	// Raw is the whole message.
	Raw string

	parsed sip.Message
	uri    string // of the request line
	code   int
	method string
	body   []byte
}

func parseMessage(raw []byte) (*Message, error) {
	parsed, err := parser.ParseSIP(raw)
	if err != nil {
		return nil, fmt.Errorf("cannot parse SIP message: %w", err)
	}
	m := &Message{Raw: string(raw), parsed: parsed, body: parsed.Body()}
	if n, err := strconv.Atoi(m.Header("Content-Length")); err == nil && n >= 0 && n < len(m.body) {
		m.body = m.body[:n] // RFC 3261 section 18.3
	}
	_, cseqMethod, _ := strings.Cut(m.Header("CSeq"), " ")
	switch parsed := parsed.(type) {
	case *sip.Request:
		m.method = string(parsed.Method)
		m.uri = strings.SplitN(m.Raw, " ", 3)[1]
	case *sip.Response:
		if parsed.StatusCode < 100 || parsed.StatusCode > 699 {
			return nil, fmt.Errorf("cannot parse SIP message: status code %d", parsed.StatusCode)
		}
		m.code = parsed.StatusCode
		m.method = strings.TrimSpace(cseqMethod)
	}
	return m, nil
}

// Method returns the method of a request, or of a response's request.
func (m *Message) Method() string { return m.method }

// Code returns the status code of a response, 0 for a request.
func (m *Message) Code() int { return m.code }

// URI returns the Request-URI as sent, empty for a response.
func (m *Message) URI() string { return m.uri }

// Body returns the body, without bytes of the datagram beyond Content-Length.
func (m *Message) Body() []byte { return m.body }

// CallID returns the Call-ID.
func (m *Message) CallID() string { return m.Header("Call-ID") }

// CSeq returns the number of the CSeq header, 0 if there is none.
func (m *Message) CSeq() uint32 {
	number, _, _ := strings.Cut(m.Header("CSeq"), " ")
	n, _ := strconv.ParseUint(number, 10, 32) // 0 when it is no number
	return uint32(n)
}

// Branch returns the branch of the top Via, which identifies the transaction (RFC 3261
// section 8.1.1.7).
func (m *Message) Branch() string { return param(m.Header("Via"), "branch") }

// Header returns the value of the first header with the name, as sent but without
// surrounding space; empty if there is none. Compact forms are found under their long
// names.
func (m *Message) Header(name string) string {
	if v := m.Headers(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Headers is like Header, but returns all headers with the name, top first. Values of one
// header line that are separated by commas stay together.
func (m *Message) Headers(name string) []string {
	var out []string
	compact := compactNames()[strings.ToLower(name)]
	for _, h := range m.headers() {
		if strings.EqualFold(h.Name(), name) || compact != "" && strings.EqualFold(h.Name(), compact) {
			out = append(out, h.Value())
		}
	}
	return out
}

func (m *Message) headers() []sip.Header {
	switch parsed := m.parsed.(type) {
	case *sip.Request:
		return parsed.Headers()
	case *sip.Response:
		return parsed.Headers()
	}
	return nil
}

// compactNames maps header names to their short forms, RFC 3261 section 7.3.3.
func compactNames() map[string]string {
	return map[string]string{"call-id": "i", "contact": "m", "content-length": "l", "content-type": "c",
		"from": "f", "supported": "k", "subject": "s", "to": "t", "via": "v"}
}

// param returns a parameter of a header value: the text after ;name=, but only after the
// last ">", so that a display name cannot fake it.
func param(value, name string) string {
	value = value[strings.LastIndexByte(value, '>')+1:]
	for _, p := range strings.Split(value, ";")[1:] {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// addressURI returns the URI of a name-addr or addr-spec.
func addressURI(value string) string {
	if i := strings.LastIndexByte(value, '<'); i >= 0 {
		uri, _, _ := strings.Cut(value[i+1:], ">")
		return uri
	}
	uri, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(uri)
}

// splitList splits header values at their commas (RFC 3261 section 7.3.1).
func splitList(values []string) []string {
	var out []string
	for _, value := range values {
		quoted, escaped, bracket, start := false, false, false, 0
		for i, c := range value {
			switch {
			case escaped:
				escaped = false
			case c == '\\' && quoted:
				escaped = true
			case c == '"' && !bracket:
				quoted = !quoted
			case c == '<' && !quoted:
				bracket = true
			case c == '>' && !quoted:
				bracket = false
			case c == ',' && !quoted && !bracket:
				out = append(out, strings.TrimSpace(value[start:i]))
				start = i + 1
			}
		}
		out = append(out, strings.TrimSpace(value[start:]))
	}
	return out
}

// request is a request to send. Values are written unchanged, whatever bytes they contain.
type request struct {
	method, uri, branch string
	from, to, callID    string
	cseq                uint32
	routes              []string
	contact             string
	headers             []string // whole lines
	body                []byte
}

func (r *request) text(f *flow, userAgent string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=%s;rport\r\n", r.method, r.uri, f.protocol, f.host, r.branch)
	for _, route := range r.routes {
		fmt.Fprintf(&b, "Route: %s\r\n", route)
	}
	fmt.Fprintf(&b, "Max-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n", r.from, r.to, r.callID, r.cseq, r.method)
	if r.contact != "" {
		fmt.Fprintf(&b, "Contact: %s\r\n", r.contact)
	}
	fmt.Fprintf(&b, "User-Agent: %s\r\n", userAgent)
	writeTail(&b, r.headers, r.body)
	return b.Bytes()
}

// responseText builds a response to req (RFC 3261 section 8.2.6.2). The tag is
// added if To has none.
func responseText(req *Message, code int, tag, contact string, headers []string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", code, reasonPhrase(code))
	for _, name := range []string{"Via", "Record-Route"} {
		for _, v := range req.Headers(name) {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	to := req.Header("To")
	if param(to, "tag") == "" && code > 100 {
		to += ";tag=" + tag
	}
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\n", req.Header("From"), to, req.CallID(), req.Header("CSeq"))
	if contact != "" {
		fmt.Fprintf(&b, "Contact: %s\r\n", contact)
	}
	writeTail(&b, headers, body)
	return b.Bytes()
}

func writeTail(b *bytes.Buffer, headers []string, body []byte) {
	for _, line := range headers {
		b.WriteString(line + "\r\n")
	}
	fmt.Fprintf(b, "Content-Length: %d\r\n\r\n", len(body))
	b.Write(body)
}

// reasonPhrase returns a text for people; SIP took most of its codes from HTTP.
func reasonPhrase(code int) string {
	switch code {
	case 180:
		return "Ringing"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 600:
		return "Busy Everywhere"
	case 603:
		return "Decline"
	}
	if s := http.StatusText(code); s != "" {
		return s
	}
	return "Status " + strconv.Itoa(code)
}

// lines returns headers as lines, sorted by name.
func lines(headers map[string]string) []string {
	out := make([]string, 0, len(headers))
	for name, value := range headers {
		out = append(out, name+": "+value)
	}
	slices.Sort(out)
	return out
}

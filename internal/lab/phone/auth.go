package phone

import (
	"fmt"
	"slices"
	"strings"

	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// challenged answers a 401 or 407 with the phone's password (RFC 3261 section 22). It sends
// the request again, once, as the same Transaction. It returns false for a response that
// the Transaction must handle. It runs in the flow's reader.
func (t *Transaction) challenged(m *Message) bool {
	t.p.mu.Lock()
	old, authorized := t.challenge, t.authorized
	t.p.mu.Unlock()
	if old.branch == m.Branch() && old.branch != "" {
		t.ackChallenge(old, m) // sent again
		return true
	}
	if t.p.cfg.Password == "" || authorized || m.Code() != 401 && m.Code() != 407 || t.req.method == "CANCEL" {
		return false
	}
	line, err := t.p.authorize(&t.req, m)
	if err != nil {
		return false
	}
	t.p.log.add(Event{Kind: Challenged, Code: m.Code(), Message: m})
	t.p.mu.Lock()
	old = t.req
	t.challenge, t.authorized = old, true
	t.req.branch, t.req.headers = sip.GenerateBranch(), append(slices.Clone(old.headers), line)
	if t.req.cseq++; t.req.method == "REGISTER" {
		t.p.regCSeq++
		t.req.cseq = t.p.regCSeq
	}
	t.text = t.req.text(t.f, t.p.cfg.UserAgent)
	t.p.client.put(txKey(t.req.branch, t.req.method), t)
	t.p.mu.Unlock()
	t.ackChallenge(old, m)
	if err := t.f.send(t.text, t.to); err != nil {
		t.finish(nil, err)
	}
	return true
}

// ackChallenge acknowledges a challenge of an INVITE (RFC 3261 section 17.1.1.3).
func (t *Transaction) ackChallenge(req request, m *Message) {
	if req.method != "INVITE" {
		return
	}
	req.method, req.to, req.contact, req.headers, req.body = "ACK", m.Header("To"), "", nil, nil
	_ = t.f.send(req.text(t.f, t.p.cfg.UserAgent), t.to) // a lost flow is a separate event
}

// authorize returns the header for the first challenge that the phone can answer (RFC
// 7616).
func (p *Phone) authorize(req *request, m *Message) (string, error) {
	from, to := "WWW-Authenticate", "Authorization"
	if m.Code() == 407 {
		from, to = "Proxy-Authenticate", "Proxy-Authorization"
	}
	for _, value := range m.Headers(from) {
		c, err := digest.ParseChallenge(value)
		if err != nil || !digest.CanDigest(c) {
			continue
		}
		made, err := digest.Digest(c, digest.Options{Method: req.method, URI: req.uri, Username: p.cfg.User, Password: p.cfg.Password, Count: 1})
		if err != nil {
			return "", fmt.Errorf("cannot answer challenge: %w", err)
		}
		return to + ": " + strings.TrimSpace(made.String()), nil
	}
	return "", fmt.Errorf("cannot answer challenge: none of %q is known", m.Headers(from))
}

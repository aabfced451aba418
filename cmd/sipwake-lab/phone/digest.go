package phone

import (
	"github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// answerChallenge sends the request of t again with the phone's password (RFC 3261
// section 22), as a transaction whose end is that of t, and reports whether it did. A
// request that carries credentials already was refused for good.
func (t *Transaction) answerChallenge(m *Message) bool {
	challenge, header := "WWW-Authenticate", "Authorization"
	if m.Code() == 407 {
		challenge, header = "Proxy-Authenticate", "Proxy-Authorization"
	}
	if t.p.cfg.Password == "" || m.Code() != 401 && m.Code() != 407 || t.first != nil {
		return false
	}
	asked, err := digest.ParseChallenge(m.Header(challenge))
	if err != nil {
		return false
	}
	credentials, err := digest.Digest(asked, digest.Options{Method: t.req.method, URI: t.req.uri, Username: t.p.cfg.User,
		Password: t.p.cfg.Password, Count: 1})
	if err != nil {
		return false
	}
	t.p.mu.Lock()
	again := t.next != nil
	t.p.mu.Unlock()
	if t.req.method == "INVITE" {
		ack := t.req
		ack.method, ack.to, ack.contact, ack.headers, ack.body = "ACK", m.Header("To"), "", nil, nil
		_ = t.f.send(ack.text(t.f, t.p.cfg.UserAgent), t.to) // the flow's end is an event of its own
	}
	if again {
		return true
	}
	req := t.req
	req.branch = sip.GenerateBranch()
	req.headers = append([]string{header + ": " + credentials.String()}, req.headers...)
	t.p.mu.Lock()
	req.cseq++
	if req.method == "REGISTER" {
		t.p.regCSeq++
		req.cseq = t.p.regCSeq
	}
	next := t.p.newTransaction(t.f, req, t.to)
	next.on, next.first = t.on, t
	t.next = next
	t.p.mu.Unlock()
	if err := next.start(); err != nil {
		return false
	}
	return true
}

// last is the transaction that stands for t: t itself, or the one with credentials.
func (t *Transaction) last() *Transaction {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if t.next != nil {
		return t.next
	}
	return t
}

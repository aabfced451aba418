package phone

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// serverTx is a received request.
type serverTx struct {
	incoming *Incoming // INVITE only

	// Under the phone's lock.
	unheard bool   // came while the phone was deaf, and is not handled yet
	last    []byte // the last response
}

// finished reports whether the request is not an INVITE that still rings.
func (t *serverTx) finished() bool {
	if t.incoming == nil {
		return true
	}
	select {
	case <-t.incoming.answered:
		return true
	default:
		return t.incoming.flow.closed()
	}
}

// Incoming is a received INVITE. Safe for concurrent use.
type Incoming struct {
	// Request is the INVITE.
	Request *Message

	p    *Phone
	flow *flow
	from netip.AddrPort
	tx   *serverTx
	tag  string

	answered chan struct{} // closed by the final response
	acked    chan struct{} // closed by its ACK
	ackOnce  sync.Once
	code     int     // final response sent, under the phone's lock
	dialog   *dialog // after a 2xx, under the phone's lock
}

// hearRequest handles a request, in the flow's reader.
func (p *Phone) hearRequest(f *flow, m *Message, from netip.AddrPort) {
	branch := m.Branch()
	if branch == "" {
		branch = m.Header("Via") // RFC 2543
	}
	key := txKey(branch, m.Method())
	p.mu.Lock()
	deaf := p.deaf
	t, known := p.server.get(key)
	if !known {
		t = &serverTx{unheard: deaf}
		if m.Method() == "INVITE" {
			t.incoming = p.newIncoming(f, m, from, t)
		}
		p.server.put(key, t)
	}
	late := known && t.unheard && !deaf
	if late {
		t.unheard = false
	}
	last := t.last
	p.mu.Unlock()

	if known {
		p.log.add(Event{Kind: GotAgain, Message: m, Deaf: deaf})
	}
	switch {
	case !known || late:
		p.handle(f, m, from, t, deaf, late)
	case !deaf && last != nil:
		_ = f.send(last, from) // it will be asked for again
	}
}

func (p *Phone) newIncoming(f *flow, m *Message, from netip.AddrPort, t *serverTx) *Incoming {
	tag := tagOf(m)
	if tag == "" {
		tag = newTag()
	}
	return &Incoming{Request: m, p: p, flow: f, from: from, tx: t, tag: tag,
		answered: make(chan struct{}), acked: make(chan struct{})}
}

// handle handles a new request, or one that a deaf phone only recorded and that came again
// when the phone was no longer deaf.
func (p *Phone) handle(f *flow, m *Message, from netip.AddrPort, t *serverTx, deaf, late bool) {
	if f.udp != nil && !deaf && p.foreign(m) {
		p.log.add(Event{Kind: GotForeign, Code: 404, Message: m})
		p.respond(f, from, t, responseText(m, 404, newTag(), "", nil, nil))
		return
	}
	e := Event{Kind: GotOther, Code: 200, Message: m, Incoming: t.incoming, Deaf: deaf}
	var then func()
	switch m.Method() {
	case "INVITE":
		e.Kind, e.Code, then = GotInvite, 0, t.incoming.start
	case "ACK":
		e.Kind, e.Code = GotAck, 0
		then = func() { p.acknowledge(m) }
	case "CANCEL":
		e.Kind = GotCancel
		invite := p.cancelled(m)
		if invite == nil {
			e.Code = 481
		} else {
			then = func() { _ = invite.finish(487) } // it may be answered already
		}
	case "BYE":
		e.Kind = GotBye
		if !deaf && !p.endDialog(m) {
			e.Code = 481
		}
	case "MESSAGE":
		e.Kind = GotMessage
		p.mu.Lock()
		if c := p.behaviour.MessageCode; c != 0 {
			e.Code = c
		}
		p.mu.Unlock()
	}
	if deaf {
		e.Code = 0
	}
	if !late {
		p.log.add(e)
	}
	if deaf {
		return
	}
	if e.Code != 0 {
		p.respond(f, from, t, responseText(m, e.Code, newTag(), "", nil, nil))
	}
	if then != nil {
		then()
	}
}

// foreign reports whether a new call or message is for another user, whose phone had this
// UDP port before (RFC 3261 section 8.2.2.1).
func (p *Phone) foreign(m *Message) bool {
	if m.Method() != "INVITE" && m.Method() != "MESSAGE" || tagOf(m) != "" {
		return false
	}
	_, rest, _ := strings.Cut(m.URI(), ":")
	user, _, ok := strings.Cut(rest, "@")
	p.mu.Lock()
	contact := p.contact
	p.mu.Unlock()
	return ok && user != p.cfg.User && !strings.Contains(contact, ":"+user+"@")
}

// respond answers to the address of the request, as rport requires (RFC 3581) and where
// every proxy listens.
func (p *Phone) respond(f *flow, from netip.AddrPort, t *serverTx, text []byte) {
	p.mu.Lock()
	t.last = text
	p.mu.Unlock()
	_ = f.send(text, from) // the other side asks again, or the flow's end is an event
}

func (p *Phone) cancelled(m *Message) *Incoming {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.server.get(txKey(m.Branch(), "INVITE")); ok {
		return t.incoming
	}
	return nil
}

// acknowledge stops retransmissions of the INVITE's final response. The ACK of a 2xx
// belongs to the dialog; any other has the INVITE's branch.
func (p *Phone) acknowledge(m *Message) {
	p.mu.Lock()
	t, ok := p.server.get(txKey(m.Branch(), "INVITE"))
	if !ok {
		t, ok = p.server.get(ackKey(m.CallID(), tagOf(m)))
	}
	p.mu.Unlock()
	if ok && t.incoming != nil {
		t.incoming.ackOnce.Do(func() { close(t.incoming.acked) })
	}
}

// ackKey returns the key of an answered INVITE, from its dialog.
func ackKey(callID, localTag string) string { return dialogKey(callID, localTag) + " ACK" }

func (p *Phone) endDialog(m *Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := dialogKey(m.CallID(), tagOf(m))
	_, ok := p.dialogs[key]
	delete(p.dialogs, key)
	return ok
}

// start rings, and ends the call as the phone's behaviour says.
func (in *Incoming) start() {
	p := in.p
	p.mu.Lock()
	b := p.behaviour
	p.mu.Unlock()
	p.log.add(Event{Kind: Ringing, Code: 180, Incoming: in})
	p.respond(in.flow, in.from, in.tx,
		responseText(in.Request, 180, in.tag, p.callContact(in.flow), lines(p.cfg.CallHeaders), nil))
	if b.Code == 0 {
		return
	}
	p.spawn(func() {
		if p.pause(b.Ring, in.answered, in.flow.done) {
			_ = in.finish(b.Code) // cancelled in the last moment
		}
	})
}

// Answer ends the ringing with a final response, 200 to 699, and repeats it until there is
// an ACK. It fails with ErrNotUp if the INVITE already has a final response, or if the
// phone has lost the flow of the INVITE.
func (in *Incoming) Answer(code int) error {
	if code < 200 || code > 699 {
		return fmt.Errorf("cannot answer call: %d is not a final status code", code)
	}
	return in.finish(code)
}

// Acked waits for the ACK of the final response.
func (in *Incoming) Acked(ctx context.Context) error {
	select {
	case <-in.acked:
		return nil
	case <-in.p.end.Done():
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("cannot see ACK: %w; so far: %s", ctx.Err(), in.p.log.tail())
	}
}

// Bye hangs up an answered call and returns the answer to the BYE.
func (in *Incoming) Bye(ctx context.Context) (*Message, error) {
	in.p.mu.Lock()
	d := in.dialog
	in.p.mu.Unlock()
	return in.p.hangUp(ctx, d)
}

func (in *Incoming) finish(code int) error {
	p := in.p
	contact, headers, body := "", []string(nil), []byte(nil)
	kind := Rejected
	p.mu.Lock()
	if in.code != 0 || in.flow.closed() {
		p.mu.Unlock()
		return fmt.Errorf("cannot answer call: %w", ErrNotUp)
	}
	in.code = code
	switch {
	case code < 300:
		kind, contact, headers = Answered, p.callContact(in.flow), lines(p.cfg.CallHeaders)
		if body = p.behaviour.SDP; body == nil && len(in.Request.Body()) > 0 {
			body = silentSDP(in.flow)
		}
		if body != nil {
			headers = append(headers, "Content-Type: application/sdp")
		}
		in.dialog = in.newDialog()
		p.dialogs[in.dialog.key()] = in.dialog
		p.server.put(ackKey(in.dialog.callID, in.tag), in.tx)
	case code == 487:
		kind = Terminated
	}
	close(in.answered)
	p.mu.Unlock()

	text := responseText(in.Request, code, in.tag, contact, headers, body)
	p.log.add(Event{Kind: kind, Code: code, Incoming: in})
	p.respond(in.flow, in.from, in.tx, text)
	if code < 300 || in.flow.stream == nil {
		p.spawn(func() { in.resend(text) })
	}
	return nil
}

// resend repeats the final response until the ACK, for at most 64 T1 (RFC 3261 sections
// 13.3.1.4 and 17.2.1).
func (in *Incoming) resend(text []byte) {
	t1 := in.p.cfg.T1
	limit := time.Now().Add(64 * t1)
	for wait := t1; time.Now().Before(limit); wait = min(2*wait, max(t2, t1)) {
		if !in.p.pause(wait, in.acked, in.flow.done) || in.flow.send(text, in.from) != nil {
			return
		}
	}
}

// newDialog returns the callee's side of the dialog (RFC 3261 section 12.1.1).
func (in *Incoming) newDialog() *dialog {
	m := in.Request
	local := m.Header("To")
	if param(local, "tag") == "" {
		local += ";tag=" + in.tag
	}
	d := &dialog{callID: m.CallID(), local: local, remote: m.Header("From"), routes: splitList(m.Headers("Record-Route"))}
	if contacts := splitList(m.Headers("Contact")); len(contacts) > 0 {
		d.target = addressURI(contacts[0])
	}
	if !strings.HasPrefix(d.target, "sip") {
		d.target = addressURI(m.Header("From"))
	}
	return d
}

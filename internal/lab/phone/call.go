package phone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// ErrNotUp is the error of Bye without a dialog, and of Cancel if the call has ended or was
// answered.
var ErrNotUp = errors.New("call is not in that state")

// dialog has the state for requests inside a dialog (RFC 3261 section 12). Only cseq and
// target change, under the phone's lock.
type dialog struct {
	callID        string
	local, remote string // From and To of this side's requests, with tags
	target        string // URI of the other side's Contact
	routes        []string
	cseq          uint32
}

func (d *dialog) key() string { return dialogKey(d.callID, param(d.local, "tag")) }

func dialogKey(callID, localTag string) string { return callID + " " + localTag }

// InviteOptions are optional parts of an INVITE.
type InviteOptions struct {
	// Display is written before the From URI unchanged: a display name with its quotes,
	// or anything else.
	Display []byte
	Headers map[string]string
	// SDP is the body; nil: a small one without media.
	SDP []byte
}

// Call is a sent INVITE and its call. Safe for concurrent use.
type Call struct {
	p      *Phone
	t      *Transaction
	sentAt time.Time

	within *dialog // of a re-INVITE
	dialog *dialog // after a 2xx, under the phone's lock

	mu    sync.Mutex
	final *Message       // the first final response
	acks  map[string]ack // by the To tag of the response
}

type ack struct {
	text []byte
	to   netip.AddrPort
}

// Result is how an INVITE ended.
type Result struct {
	Code    int
	Message *Message
	At      time.Time     // when the response came
	After   time.Duration // since the INVITE was sent
}

// Invite calls the target, a user of the phone's domain or a SIP URI, and returns when the
// INVITE is sent. The phone acknowledges final responses by itself (RFC 3261 sections
// 13.2.2.4, 17.1.1.3).
func (p *Phone) Invite(ctx context.Context, target string, o InviteOptions) (*Call, error) {
	f, err := p.open(ctx, false)
	if err != nil {
		return nil, err
	}
	if o.SDP == nil {
		o.SDP = silentSDP(f)
	}
	req := p.newRequest("INVITE", target, o.Display)
	req.contact, req.headers, req.body = p.callContact(f), append(withType(o.Headers, "application/sdp"), lines(p.cfg.CallHeaders)...), o.SDP
	c := &Call{p: p, sentAt: time.Now(), t: p.newTransaction(f, req, *f.proxy.Load())}
	c.t.on = c.hear
	if err := c.t.start(); err != nil {
		return nil, err
	}
	return c, nil
}

// silentSDP offers or accepts audio that is neither sent nor received.
func silentSDP(f *flow) []byte {
	ip := f.local.Addr()
	version := "IP4"
	if ip.Is6() {
		version = "IP6"
	}
	return fmt.Appendf(nil, "v=0\r\no=- 0 0 IN %s %s\r\ns=-\r\nc=IN %s %s\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\na=inactive\r\n", version, ip, version, ip)
}

// CallID returns the call's Call-ID: the CallID of its events, here and at the callee.
func (c *Call) CallID() string { return c.t.req.callID }

// hear handles every response to the INVITE.
func (c *Call) hear(m *Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, again := c.acks[tagOf(m)]
	switch {
	case m.Code() < 200:
		c.p.log.add(Event{Kind: Provisional, Code: m.Code(), Message: m})
	case again:
		c.send(known) // the ACK was lost
	case c.final == nil:
		c.final = m
		c.hearFinal(m)
	case c.final.Code() < 300 && m.Code() < 300:
		c.hearFork(m)
	}
}

func tagOf(m *Message) string { return param(m.Header("To"), "tag") }

func (c *Call) hearFinal(m *Message) {
	a := ack{to: c.t.to}
	if m.Code() < 300 {
		d := c.newDialog(m)
		c.p.mu.Lock()
		c.dialog = d
		c.p.dialogs[d.key()] = d
		c.p.mu.Unlock()
		a = c.ack2xx(d)
	} else {
		req := c.t.req
		req.method, req.to, req.contact, req.headers, req.body = "ACK", m.Header("To"), "", nil, nil
		a.text = req.text(c.t.f, c.p.cfg.UserAgent)
	}
	c.acks = map[string]ack{tagOf(m): a}
	c.send(a)
	c.p.log.add(Event{Kind: Final, Code: m.Code(), Message: m})
}

// hearFork hangs up on a callee that answered after another one (RFC 3261 section
// 13.2.2.4).
func (c *Call) hearFork(m *Message) {
	d := c.newDialog(m)
	a := c.ack2xx(d)
	c.acks[tagOf(m)] = a
	c.send(a)
	c.p.log.add(Event{Kind: Forked, Code: m.Code(), Message: m})
	_, _ = c.p.sendInDialog(c.t.f, d, "BYE") // a lost flow is a separate event
}

// send sends an ACK. A lost flow is a separate event.
func (c *Call) send(a ack) { _ = c.t.f.send(a.text, a.to) }

// newDialog returns the caller's side of the dialog. The route set is the reversed
// Record-Route (RFC 3261 section 12.1.2). A re-INVITE only changes the target (section
// 12.2.1.2).
func (c *Call) newDialog(m *Message) *dialog {
	if d := c.within; d != nil {
		if contacts := splitList(m.Headers("Contact")); len(contacts) > 0 {
			c.p.mu.Lock()
			d.target = addressURI(contacts[0])
			c.p.mu.Unlock()
		}
		return d
	}
	routes := splitList(m.Headers("Record-Route"))
	slices.Reverse(routes)
	d := &dialog{callID: c.t.req.callID, local: c.t.req.from, remote: m.Header("To"), target: c.t.req.uri,
		routes: routes, cseq: c.t.req.cseq}
	if contacts := splitList(m.Headers("Contact")); len(contacts) > 0 {
		d.target = addressURI(contacts[0])
	}
	return d
}

func (c *Call) ack2xx(d *dialog) ack {
	c.p.mu.Lock()
	req := d.request("ACK", c.t.req.cseq)
	c.p.mu.Unlock()
	return ack{req.text(c.t.f, c.p.cfg.UserAgent), c.t.f.hop(req.uri, req.routes)}
}

func (d *dialog) request(method string, cseq uint32) request {
	return request{method: method, uri: d.target, branch: sip.GenerateBranch(), from: d.local, to: d.remote,
		callID: d.callID, cseq: cseq, routes: d.routes}
}

// sendInDialog sends the dialog's next request.
func (p *Phone) sendInDialog(f *flow, d *dialog, method string) (*Transaction, error) {
	p.mu.Lock()
	d.cseq++
	req := d.request(method, d.cseq)
	p.mu.Unlock()
	return p.send(f, req, f.hop(req.uri, req.routes), nil)
}

// Request sends another request inside the dialog, such as INFO, and waits for the
// answer. It fails with ErrNotUp if there is no dialog.
func (c *Call) Request(ctx context.Context, method string) (*Message, error) {
	d, f, err := c.inDialog(ctx)
	if err != nil {
		return nil, err
	}
	t, err := c.p.sendInDialog(f, d, method)
	if err != nil {
		return nil, err
	}
	return t.Final(ctx)
}

// Reinvite sends an INVITE inside the dialog (RFC 3261 section 14). What comes of it is a
// Call of its own, in the same dialog. It fails with ErrNotUp if there is none.
func (c *Call) Reinvite(ctx context.Context) (*Call, error) {
	d, f, err := c.inDialog(ctx)
	if err != nil {
		return nil, err
	}
	c.p.mu.Lock()
	d.cseq++
	req := d.request("INVITE", d.cseq)
	c.p.mu.Unlock()
	req.contact, req.headers, req.body = c.p.callContact(f), withType(nil, "application/sdp"), silentSDP(f)
	again := &Call{p: c.p, within: d, sentAt: time.Now(), t: c.p.newTransaction(f, req, f.hop(req.uri, req.routes))}
	again.t.on = again.hear
	return again, again.t.start()
}

func (c *Call) inDialog(ctx context.Context) (*dialog, *flow, error) {
	c.p.mu.Lock()
	d := c.dialog
	c.p.mu.Unlock()
	if d == nil {
		return nil, nil, fmt.Errorf("cannot send inside the dialog: %w", ErrNotUp)
	}
	f, err := c.p.open(ctx, false)
	return d, f, err
}

// hangUp sends BYE on the phone's current flow, which may be newer than that of the INVITE,
// and waits for the answer.
func (p *Phone) hangUp(ctx context.Context, d *dialog) (*Message, error) {
	p.mu.Lock()
	known := d != nil && p.dialogs[d.key()] == d
	if known {
		delete(p.dialogs, d.key())
	}
	p.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("cannot hang up: %w", ErrNotUp)
	}
	f, err := p.open(ctx, false)
	if err != nil {
		return nil, err
	}
	t, err := p.sendInDialog(f, d, "BYE")
	if err != nil {
		return nil, err
	}
	return t.Final(ctx)
}

// Provisional waits for a provisional response with the code, or for any if code is 0.
// Earlier ones count. It fails with ErrNotUp if the final response comes first.
func (c *Call) Provisional(ctx context.Context, code int) (*Message, error) {
	e, err := c.p.Wait(ctx, func(e Event) bool {
		return e.CallID == c.CallID() && (e.Kind == Final || e.Kind == Provisional && (code == 0 || e.Code == code))
	})
	if err == nil && e.Kind == Final {
		return nil, fmt.Errorf("cannot see provisional response: final response %d: %w", e.Code, ErrNotUp)
	}
	return e.Message, err
}

// Final waits for the final response, and for its ACK to be sent.
func (c *Call) Final(ctx context.Context) (Result, error) {
	m, err := c.t.Final(ctx)
	if err != nil {
		return Result{}, err
	}
	return Result{Code: m.Code(), Message: m, At: c.t.at, After: c.t.at.Sub(c.sentAt)}, nil
}

// Cancel sends CANCEL as soon as there is a provisional response (RFC 3261 section 9.1). It
// returns the answer to the CANCEL itself; Final returns how the call ends. It fails with
// ErrNotUp if the call has a final response.
func (c *Call) Cancel(ctx context.Context) (*Message, error) {
	select {
	case <-c.t.heard:
	case <-c.t.f.done:
		return nil, fmt.Errorf("cannot cancel call: %w", errFlow)
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot cancel call: %w", ctx.Err())
	}
	if c.t.finished() {
		return nil, fmt.Errorf("cannot cancel call: %w", ErrNotUp)
	}
	c.p.mu.Lock()
	req := c.t.req // a challenge may have changed it
	c.p.mu.Unlock()
	req.method, req.contact, req.headers, req.body = "CANCEL", "", nil, nil
	t, err := c.p.send(c.t.f, req, c.t.to, nil)
	if err != nil {
		return nil, err
	}
	return t.Final(ctx)
}

// Bye hangs up and returns the answer. It fails with ErrNotUp if the call was not answered
// with a 2xx, or is over. A BYE may overtake the ACK in a proxy: wait for Incoming.Acked if
// the order matters.
func (c *Call) Bye(ctx context.Context) (*Message, error) {
	c.p.mu.Lock()
	d := c.dialog
	c.p.mu.Unlock()
	return c.p.hangUp(ctx, d)
}

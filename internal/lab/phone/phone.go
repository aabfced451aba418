// Package phone simulates SIP phones on real sockets, for the demo, the end-to-end tests
// and the load generator. Its phones register, fall asleep, are woken by a push, ring,
// answer and hang up, and call each other.
//
// It parses with sipgo but has its own transactions, because it must do what a good stack
// prevents: receive without answering, send broken bytes, register three times at once,
// return with an old Contact on a new connection.
//
// Everything that happens is an Event. Tests wait for events and never sleep.
package phone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"
)

// ErrAsleep is the error when a sleeping phone should send.
var ErrAsleep = errors.New("phone asleep")

// errFlow is the error of what was in progress on a socket or connection that was closed.
var errFlow = errors.New("connection closed")

// Phone is one SIP user agent, callee and caller. Safe for concurrent use.
// An idle phone costs one goroutine and one socket.
type Phone struct {
	cfg    Config
	log    eventLog
	regID  string // Call-ID and From tag of all its REGISTERs
	regTag string

	purr atomic.Pointer[string] // that it was told last; nil: none

	opening sync.Mutex // held while a flow is opened, so that there is only one

	// end and its cancel are the phone's life: goroutines stop with it.
	end  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu        sync.Mutex
	flow      *flow // nil until the first use
	asleep    bool
	deaf      bool
	waking    bool
	closed    bool
	contact   string // Contact override
	proxy     string // host:port
	behaviour Behaviour
	regCSeq   uint32
	client    table[*Transaction]
	server    table[*serverTx]
	dialogs   map[string]*dialog
}

// New checks the configuration and returns a phone without a socket or connection. It opens
// one by Open or Wake, when it first sends, and when it sends after the connection was
// lost. The caller must Close it.
func New(cfg Config) (*Phone, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	p := &Phone{cfg: cfg, contact: cfg.Contact, proxy: cfg.Proxy, behaviour: cfg.Behaviour,
		regID: uuid.NewString(), regTag: newTag(), dialogs: make(map[string]*dialog),
		client: newTable[*Transaction](64 * cfg.T1), server: newTable[*serverTx](64 * cfg.T1)}
	p.log = eventLog{keep: cfg.Keep, hook: cfg.OnEvent, next: make(map[Kind]int)}
	p.end, p.stop = context.WithCancel(context.Background())
	return p, nil
}

func newTag() string { return sip.GenerateTagN(12) }

// AOR returns the phone's address of record, sip:user@domain.
func (p *Phone) AOR() string { return "sip:" + p.cfg.User + "@" + p.cfg.Domain }

// LocalAddr returns the address of the open socket or connection, or the last one.
func (p *Phone) LocalAddr() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flow == nil {
		return netip.AddrPort{}
	}
	return p.flow.local
}

// SetBehaviour changes what the phone does with requests from now on.
func (p *Phone) SetBehaviour(b Behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behaviour = b
}

// SetContact replaces the whole Contact value of later REGISTERs; empty restores the
// phone's own.
func (p *Phone) SetContact(value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contact = value
}

// SetProxy sets another proxy, address:port. Over UDP the phone uses it at once, with the
// same socket; over TCP from its next connection on.
func (p *Phone) SetProxy(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("cannot use proxy %q: %w", address, err)
	}
	p.opening.Lock()
	defer p.opening.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proxy = address
	if p.flow != nil && p.flow.udp != nil {
		p.flow.proxy.Store(&to)
	}
	return nil
}

// Open opens the socket or connection if none is open, even if the phone sleeps. It sends
// nothing.
func (p *Phone) Open(ctx context.Context) error {
	_, err := p.open(ctx, true)
	return err
}

// open returns the open flow. It wakes a sleeping phone only if wake is set.
func (p *Phone) open(ctx context.Context, wake bool) (*flow, error) {
	p.opening.Lock()
	defer p.opening.Unlock()
	p.mu.Lock()
	f, asleep, closed, proxy := p.flow, p.asleep, p.closed, p.proxy
	p.mu.Unlock()
	switch {
	case closed:
		return nil, ErrClosed
	case asleep && !wake:
		return nil, ErrAsleep
	case f != nil && !f.closed():
		return f, nil
	}
	f, err := openFlow(ctx, &p.cfg, proxy)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		f.close()
		return nil, ErrClosed
	}
	p.flow, p.asleep = f, false
	p.work.Add(1)
	p.mu.Unlock()
	p.log.add(Event{Kind: Opened})
	go func() {
		defer p.work.Done()
		p.readFlow(f)
	}()
	return f, nil
}

func (p *Phone) readFlow(f *flow) {
	err := f.read(func(raw []byte, from netip.AddrPort, err error) { p.hear(f, raw, from, err) })
	if err != nil {
		f.close()
		p.log.add(Event{Kind: Lost, Err: err})
	}
}

// hear handles one received message. It runs in the flow's reader.
func (p *Phone) hear(f *flow, raw []byte, from netip.AddrPort, err error) {
	var m *Message
	if err == nil {
		m, err = parseMessage(raw)
	}
	switch {
	case err != nil:
		p.log.add(Event{Kind: GotGarbage, Raw: raw, Err: err})
	case m.Code() != 0:
		p.hearResponse(m)
	default:
		p.hearRequest(f, m, from)
	}
}

// Sleep closes the socket or connection without notice, like an operating system that
// suspends an app. What was in progress on it fails.
func (p *Phone) Sleep() {
	p.opening.Lock()
	defer p.opening.Unlock()
	p.mu.Lock()
	f := p.flow
	p.asleep = true
	p.mu.Unlock()
	if f != nil {
		f.close()
	}
	p.log.add(Event{Kind: Slept})
}

// SleepDeaf leaves the socket or connection open, but the phone only records requests and
// does not answer them until Wake. It still handles answers to its own requests.
func (p *Phone) SleepDeaf() {
	p.mu.Lock()
	p.deaf = true
	p.mu.Unlock()
	p.log.add(Event{Kind: Deafened})
}

// Hear ends SleepDeaf without a REGISTER, like an operating system that resumes an app. The
// phone handles requests that came during SleepDeaf when they are sent again.
func (p *Phone) Hear() {
	p.mu.Lock()
	p.deaf = false
	p.mu.Unlock()
	p.log.add(Event{Kind: Heard})
}

// Wake makes the phone answer again and registers it. After Sleep, or if its connection was
// lost, it opens a new socket on a new port or a new connection. A phone that was only
// deaf, or awake, keeps its own. Wake returns the final response to the REGISTER.
func (p *Phone) Wake(ctx context.Context) (*Message, error) {
	m, err := p.wake(ctx)
	e := Event{Kind: Woken, Message: m, Err: err}
	if m != nil {
		e.Code = m.Code()
	}
	p.log.add(e)
	return m, err
}

func (p *Phone) wake(ctx context.Context) (*Message, error) {
	if _, err := p.open(ctx, true); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.deaf = false
	p.mu.Unlock()
	return p.Register(ctx, p.cfg.Expires)
}

// OnPush handles a push; use it as OnDeliver of a push simulator. It records the push and
// returns. The phone then wakes by itself (Wake, after WakeDelay), once for all pushes that
// arrive while it is waking. To know when it is done, wait for Woken.
func (p *Phone) OnPush(payload []byte) {
	p.log.add(Event{Kind: GotPush, Payload: payload})
	if p.cfg.WakeOn != nil && !p.cfg.WakeOn(payload) {
		return
	}
	p.mu.Lock()
	if p.waking {
		p.mu.Unlock()
		return
	}
	p.waking = true
	p.mu.Unlock()
	p.spawn(func() {
		defer func() {
			p.mu.Lock()
			p.waking = false
			p.mu.Unlock()
		}()
		if !p.pause(p.cfg.WakeDelay, nil, nil) {
			return
		}
		_, _ = p.Wake(p.end) // the error is in the event
	})
}

// pause waits for d and reports whether neither a channel nor Close ended it early.
func (p *Phone) pause(d time.Duration, a, b <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a:
	case <-b:
	case <-p.end.Done():
	}
	return false
}

// spawn runs fn in a goroutine that Close waits for.
func (p *Phone) spawn(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		fn()
	}()
}

// SendRaw sends the bytes to the proxy unchanged. The answer is recorded as GotStray,
// GotGarbage or, over TCP, Lost.
func (p *Phone) SendRaw(ctx context.Context, b []byte) error {
	f, err := p.open(ctx, false)
	if err != nil {
		return err
	}
	return f.send(b, *f.proxy.Load())
}

// Close ends everything and waits for it. It sends nothing. Idempotent.
func (p *Phone) Close() {
	p.mu.Lock()
	p.closed = true
	f := p.flow
	p.mu.Unlock()
	p.stop()
	if f != nil {
		f.close()
	}
	p.work.Wait()
	p.log.close()
}

// ownContact returns the Contact of this flow, without header parameters.
func (p *Phone) ownContact(f *flow) string {
	transport := ""
	switch p.cfg.Transport {
	case UDP:
	case WSS:
		transport = ";transport=ws" // RFC 7118 section 5.2.1
	default:
		transport = ";transport=" + p.cfg.Transport
	}
	return "<sip:" + p.cfg.User + "@" + f.host + transport + p.cfg.ContactParams + ">"
}

// callContact returns the Contact of calls.
func (p *Phone) callContact(f *flow) string {
	contact := p.ownContact(f)
	if p.cfg.CallContact != "" {
		contact = strings.ReplaceAll(p.cfg.CallContact, "{address}", f.local.String())
	}
	if purr := p.purr.Load(); purr != nil && p.cfg.PURR {
		contact = strings.Replace(contact, ">", ";pn-purr="+*purr+">", 1)
	}
	return contact
}

var pnspurr = regexp.MustCompile(`\+sip\.pnspurr="([^"]+)"`)

// hearPURR takes the answer to a REGISTER.
func (p *Phone) hearPURR(m *Message) {
	if found := pnspurr.FindStringSubmatch(strings.Join(m.Headers("Feature-Caps"), ",")); found != nil {
		p.purr.Store(&found[1])
	}
}

// targetURI makes a URI of a user's name in the phone's domain.
func (p *Phone) targetURI(target string) string {
	if strings.HasPrefix(target, "sip:") || strings.HasPrefix(target, "sips:") || strings.HasPrefix(target, "tel:") {
		return target
	}
	return "sip:" + target + "@" + p.cfg.Domain
}

package phone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/google/uuid"
)

// ErrNoAnswer is the error of a request without a final response within 64 T1 (RFC 3261
// timers B and F), or of an INVITE without any response.
var ErrNoAnswer = errors.New("no answer")

// t2 caps the retransmission interval of requests other than INVITE.
const t2 = 4 * time.Second

// Transaction is a sent request. Safe for concurrent use.
type Transaction struct {
	p    *Phone
	f    *flow
	req  request // req and text change with a challenge, under the phone's lock
	text []byte
	to   netip.AddrPort
	// challenge is the request that was challenged with 401 or 407.
	challenge  request
	authorized bool
	// on is called with every response, in the flow's reader, before the transaction
	// handles it.
	on func(*Message)

	heard     chan struct{} // closed by the first response, or with done
	done      chan struct{} // closed by the final response or by a failure
	onceHeard sync.Once
	onceDone  sync.Once
	final     *Message // set before done is closed
	err       error
	at        time.Time
}

func (t *Transaction) finished() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// finish ends the transaction; only the first call counts.
func (t *Transaction) finish(m *Message, err error) {
	t.onceDone.Do(func() {
		t.final, t.err, t.at = m, err, time.Now()
		t.onceHeard.Do(func() { close(t.heard) })
		close(t.done)
	})
}

// Final waits for the final response.
func (t *Transaction) Final(ctx context.Context) (*Message, error) {
	select {
	case <-t.done:
	default:
		select {
		case <-t.done:
		case <-t.f.done:
			t.finish(nil, fmt.Errorf("cannot see answer to %s: %w", t.req.method, errFlow))
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot see answer to %s: %w; so far: %s", t.req.method, ctx.Err(), t.p.log.tail())
		}
	}
	return t.final, t.err
}

// send starts a transaction.
func (p *Phone) send(f *flow, req request, to netip.AddrPort, on func(*Message)) (*Transaction, error) {
	t := p.newTransaction(f, req, to)
	t.on = on
	return t, t.start()
}

func (p *Phone) newTransaction(f *flow, req request, to netip.AddrPort) *Transaction {
	return &Transaction{p: p, f: f, req: req, text: req.text(f, p.cfg.UserAgent), to: to,
		heard: make(chan struct{}), done: make(chan struct{})}
}

func (t *Transaction) start() error {
	t.p.mu.Lock()
	t.p.client.put(txKey(t.req.branch, t.req.method), t)
	t.p.mu.Unlock()
	if err := t.f.send(t.text, t.to); err != nil {
		t.finish(nil, err)
		return err
	}
	t.p.spawn(t.resend)
	return nil
}

// resend repeats the request over UDP until it is answered, for at most 64 T1. An INVITE is
// not repeated after its first provisional response.
func (t *Transaction) resend() {
	invite := t.req.method == "INVITE"
	stop := t.done
	if invite {
		stop = t.heard
	}
	wait, limit := t.p.cfg.T1, time.Now().Add(64*t.p.cfg.T1)
	if t.f.stream != nil {
		wait = 64 * t.p.cfg.T1
	}
	for t.p.pause(wait, stop, t.f.done) {
		if !time.Now().Before(limit) {
			t.finish(nil, fmt.Errorf("cannot see answer to %s: %w", t.req.method, ErrNoAnswer))
			return
		}
		t.p.mu.Lock()
		text := t.text
		t.p.mu.Unlock()
		if err := t.f.send(text, t.to); err != nil {
			t.finish(nil, err)
			return
		}
		wait *= 2
		if !invite {
			wait = min(wait, max(t2, t.p.cfg.T1))
		}
		wait = min(wait, time.Until(limit))
	}
	if t.f.closed() && !t.finished() {
		t.finish(nil, fmt.Errorf("cannot see answer to %s: %w", t.req.method, errFlow))
	}
}

func txKey(branch, method string) string { return branch + " " + method }

// hearResponse finds the request of a response by the branch of the top Via and the method
// (RFC 3261 section 17.1.3).
func (p *Phone) hearResponse(m *Message) {
	p.mu.Lock()
	t, ok := p.client.get(txKey(m.Branch(), m.Method()))
	p.mu.Unlock()
	if !ok {
		p.log.add(Event{Kind: GotStray, Code: m.Code(), Message: m})
		return
	}
	if t.challenged(m) {
		return
	}
	if t.on != nil {
		t.on(m)
	}
	t.onceHeard.Do(func() { close(t.heard) })
	if m.Code() >= 200 {
		t.finish(m, nil)
	}
}

// Register sends a REGISTER and waits for its final response; expires of 0
// removes the registration. All REGISTERs of a phone have one Call-ID and a
// growing CSeq, whatever flow they take (RFC 3261 section 10.2).
func (p *Phone) Register(ctx context.Context, expires time.Duration) (*Message, error) {
	t, err := p.SendRegister(ctx, expires)
	if err != nil {
		return nil, err
	}
	return t.Final(ctx)
}

// SendRegister is like Register, but does not wait.
func (p *Phone) SendRegister(ctx context.Context, expires time.Duration) (*Transaction, error) {
	f, err := p.open(ctx, false)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.regCSeq++
	cseq, contact := p.regCSeq, p.contact
	p.mu.Unlock()
	if contact == "" {
		contact = p.ownContact(f)
		if p.cfg.Instance != "" {
			contact += `;+sip.instance="<` + p.cfg.Instance + `>"`
		}
	}
	req := request{method: "REGISTER", uri: "sip:" + p.cfg.Domain, branch: sip.GenerateBranch(),
		from: "<" + p.AOR() + ">;tag=" + p.regTag, to: "<" + p.AOR() + ">", callID: p.regID, cseq: cseq, contact: contact,
		headers: append(lines(p.cfg.Headers), fmt.Sprintf("Expires: %d", int64(expires/time.Second)))}
	return p.send(f, req, *f.proxy.Load(), func(m *Message) {
		if m.Code() >= 200 {
			p.hearPURR(m)
			p.log.add(Event{Kind: Registered, Code: m.Code(), Message: m})
		}
	})
}

// Message sends a text (RFC 3428) to the target, a user of the phone's domain
// or a SIP URI, and waits for the final response.
func (p *Phone) Message(ctx context.Context, target, text string) (*Message, error) {
	t, err := p.SendMessage(ctx, target, text, MessageOptions{})
	if err != nil {
		return nil, err
	}
	return t.Final(ctx)
}

// MessageOptions are optional parts of a MESSAGE.
type MessageOptions struct {
	Method  string            // another one, such as OPTIONS; default MESSAGE
	Display []byte            // as in InviteOptions
	Headers map[string]string // Content-Type replaces text/plain
}

// SendMessage is like Message, but does not wait.
func (p *Phone) SendMessage(ctx context.Context, target, text string, o MessageOptions) (*Transaction, error) {
	f, err := p.open(ctx, false)
	if err != nil {
		return nil, err
	}
	req := p.newRequest(cmp.Or(o.Method, "MESSAGE"), target, o.Display)
	req.headers, req.body = withType(o.Headers, "text/plain"), []byte(text)
	return p.send(f, req, *f.proxy.Load(), nil)
}

// newRequest returns a request outside of any dialog.
func (p *Phone) newRequest(method, target string, display []byte) request {
	uri, from := p.targetURI(target), "<"+p.AOR()+">;tag="+newTag()
	if len(display) > 0 {
		from = string(display) + " " + from
	}
	return request{method: method, uri: uri, branch: sip.GenerateBranch(), from: from, to: "<" + uri + ">",
		callID: uuid.NewString(), cseq: 1}
}

func withType(headers map[string]string, contentType string) []string {
	all := map[string]string{"Content-Type": contentType}
	for name, value := range headers {
		all[name] = value
	}
	return lines(all)
}

// finisher is a transaction; table forgets it some time after its end.
type finisher interface{ finished() bool }

// table finds transactions by their key. Those that have ended stay for a while, at most
// twice its life, to recognise retransmissions.
type table[T finisher] struct {
	life    time.Duration
	m       map[string]T
	expired map[string]struct{} // keys that had ended at the last sweep
	swept   time.Time
}

func newTable[T finisher](life time.Duration) table[T] {
	return table[T]{life: life, m: make(map[string]T), swept: time.Now()}
}

func (t *table[T]) get(key string) (T, bool) {
	v, ok := t.m[key]
	return v, ok
}

func (t *table[T]) put(key string, v T) {
	t.m[key] = v
	if time.Since(t.swept) < t.life {
		return
	}
	for key := range t.expired {
		delete(t.m, key)
	}
	t.swept, t.expired = time.Now(), make(map[string]struct{})
	for key, v := range t.m {
		if v.finished() {
			t.expired[key] = struct{}{}
		}
	}
}

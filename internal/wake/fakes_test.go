package wake_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

const (
	bob   = "bob@example.com"
	alice = "sip:alice@example.com"
	app   = "com.example.phone"
)

// rig is a Service between a store in memory, a node, a push service and other
// instances that record what they are asked. It lives in a synctest bubble.
type rig struct {
	t        *testing.T
	service  *wake.Service
	config   wake.Config
	store    *memory
	node     *node
	pusher   *pusher
	others   *others
	traces   *trace.Log
	log      *lockedLog
	registry *prometheus.Registry
	cseq     uint32
}

// inBubble runs f with a rig, on a clock of its own.
func inBubble(t *testing.T, change func(*wake.Config), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change, newMemory())
		defer r.stop()
		f(r)
	})
}

func newRig(t *testing.T, change func(*wake.Config), s *memory) *rig {
	r := &rig{t: t, store: s, node: &node{answer: wake.SignalAdded}, pusher: &pusher{}, others: &others{}, traces: trace.NewLog(100),
		log: &lockedLog{}, registry: prometheus.NewRegistry()}
	r.pusher.policy.SetDefaults(pnparam.APNs)
	if change != nil {
		change(&r.config)
	}
	if r.config.Alert.Code == 0 {
		r.config.Alert.Code = -1
	}
	r.config.SetDefaults()
	r.config.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
	r.service = wake.New(r.config, map[string]wake.Node{"sip1": r.node, "sip2": r.node}, wake.Deps{
		Store: s, Sweeper: s, History: s, Others: r.others, Pusher: r.pusher, Traces: r.traces,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: r.registry})
	return r
}

func (r *rig) fatal(format string, args ...any) {
	r.t.Helper()
	r.t.Fatalf(format+"\n%s\nlog:\n%s", append(args, r.story(), r.log)...)
}

// story is every timeline, for messages.
func (r *rig) story() string {
	var b strings.Builder
	for _, t := range r.timelines(trace.Query{AOR: bob, Limit: 100}) {
		fmt.Fprintf(&b, "%s %s %s\n", t.CallID, t.Outcome, t.Reason)
		for _, e := range t.Events {
			fmt.Fprintf(&b, "  %6d ms %-12s %s %s\n", e.At.Sub(t.StartedAt).Milliseconds(), e.Name, e.Device, e.Detail)
		}
	}
	return b.String()
}

func contact(provider, device, token string) string {
	return fmt.Sprintf(`<sip:bob@192.0.2.1:5060;pn-provider=%s;pn-param=%s;pn-prid=%s>;+sip.instance="<urn:uuid:%s>"`,
		provider, app, token, device)
}

// phone is an Android phone's Contact.
func phone(device string) string { return contact("fcm", device, "token-"+device) }

// iPhone has a voip token and a remote token, 64 hexadecimal digits each.
func iPhone(device string) string {
	return fmt.Sprintf(`<sip:bob@192.0.2.1:5060;pn-provider=apns;pn-param=TEAM123456.%s.voip&remote;pn-prid=%s:voip&%s:remote>;+sip.instance="<urn:uuid:%s>"`,
		app, strings.Repeat("a", 64), strings.Repeat("b", 64), device)
}

func instance(device string) string { return "urn:uuid:" + device }

// register sends a REGISTER with the Contact and returns the answer.
func (r *rig) register(contact string) wake.RegisterResult {
	r.t.Helper()
	return r.registerAs(wake.RegisterParams{Contact: contact})
}

func (r *rig) registerAs(p wake.RegisterParams) wake.RegisterResult {
	r.t.Helper()
	res, err := r.tryRegister(p)
	if err != nil {
		r.fatal("register: %v", err)
	}
	return res
}

func (r *rig) tryRegister(p wake.RegisterParams) (wake.RegisterResult, error) {
	r.cseq++
	p.CSeq = r.cseq
	if p.Node == "" {
		p.Node = "sip1"
	}
	if p.AOR == "" {
		p.AOR = bob
	}
	if p.CallID == "" {
		p.CallID = "registration-" + p.Contact[max(0, len(p.Contact)-12):]
	}
	if p.Expires == 0 {
		p.Expires = 3600
	}
	if p.Source == "" {
		p.Source = "tcp:192.0.2.1:5060"
	}
	res, err := r.service.Register(r.t.Context(), p)
	synctest.Wait()
	return res, err
}

// asleep has the phones register, and waits until that proves nothing any more.
func (r *rig) asleep(contacts ...string) {
	r.t.Helper()
	for _, c := range contacts {
		r.register(c)
	}
	r.sleep(r.config.Recent + time.Second)
}

// start holds a call with that key and returns the answer.
func (r *rig) start(call string, change ...func(*wake.StartParams)) wake.StartResult {
	r.t.Helper()
	res, err := r.tryStart(call, change...)
	if err != nil {
		r.fatal("start: %v", err)
	}
	return res
}

func (r *rig) tryStart(call string, change ...func(*wake.StartParams)) (wake.StartResult, error) {
	p := wake.StartParams{Node: "sip1", AOR: bob, CallID: "call-" + call, Call: call, Kind: push.Call, From: alice, Display: "Alice"}
	for _, f := range change {
		f(&p)
	}
	res, err := r.service.Start(r.t.Context(), p)
	synctest.Wait()
	return res, err
}

func live(names ...string) func(*wake.StartParams) {
	return func(p *wake.StartParams) { p.Live = names }
}

// end says why the call ended and returns whether it was known.
func (r *rig) end(call string, reason wake.EndReason) bool {
	r.t.Helper()
	known, err := r.service.End(r.t.Context(), wake.EndParams{Node: "sip1", AOR: bob, Call: call, Reason: reason})
	if err != nil {
		r.fatal("end: %v", err)
	}
	synctest.Wait()
	return known
}

// rings says that a phone answered, and returns whether its push was still waiting.
func (r *rig) rings(call, name string) bool {
	r.t.Helper()
	waited, err := r.service.Progress(r.t.Context(), wake.ProgressParams{Node: "sip1", AOR: bob, Call: call, Contact: name})
	if err != nil {
		r.fatal("progress: %v", err)
	}
	synctest.Wait()
	return waited
}

// wantPushes checks all pushes so far, each as "kind token-or-service".
func (r *rig) wantPushes(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.pusher.sent(); !slices.Equal(got, want) {
		r.fatal("pushes are %q, want %q", got, want)
	}
}

// wantSignals checks what the node was told so far, each as "method node device".
func (r *rig) wantSignals(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.node.told(); !slices.Equal(got, want) {
		r.fatal("signals are %q, want %q", got, want)
	}
}

// wantBindings checks the devices of bob.
func (r *rig) wantBindings(devices ...string) {
	r.t.Helper()
	synctest.Wait()
	list, err := r.service.Bindings(r.t.Context(), bob, secret.Token{})
	if err != nil {
		r.fatal("bindings: %v", err)
	}
	var got []string
	for _, b := range list {
		got = append(got, strings.TrimPrefix(b.Device, "urn:uuid:"))
	}
	if !slices.Equal(got, devices) {
		r.fatal("bindings are %q, want %q", got, devices)
	}
}

// events returns the events of a call's timeline.
func (r *rig) events(call string) []string {
	var names []string
	for _, t := range r.timelines(trace.Query{CallID: "call-" + call, Limit: 100}) {
		for _, e := range t.Events {
			names = append(names, string(e.Name))
		}
	}
	return names
}

func (r *rig) wantEvent(call string, name trace.EventName) {
	r.t.Helper()
	if !slices.Contains(r.events(call), string(name)) {
		r.fatal("there is no event %q", name)
	}
}

// metric is the sum of the series with these labels, each "name=value".
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	n := 0.0
	families, err := r.registry.Gather()
	if err != nil {
		r.fatal("metrics: %v", err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetName()+"="+l.GetValue())
			}
			if !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(has, l) }) {
				n += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// pusher records pushes and answers as it is told.
type pusher struct {
	mu       sync.Mutex
	policy   push.Policy
	unserved bool
	load     float64
	outcome  func(push.Request) push.Outcome // default: accepted
	hold     bool                            // answer only when asked to
	requests []push.Request
	pending  []func()
}

func (p *pusher) Push(ctx context.Context, r push.Request, done func(push.Outcome)) {
	if ctx.Err() != nil {
		done(push.Outcome{Reply: push.Reply{Reason: push.Dropped}})
		return
	}
	p.mu.Lock()
	p.requests = append(p.requests, r)
	o := push.Outcome{Reply: push.Reply{Reason: push.Accepted, ID: "id"}, Tries: 1}
	if p.outcome != nil {
		o = p.outcome(r)
	}
	if p.hold {
		p.pending = append(p.pending, func() { done(o) })
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	if o.Tries == 0 {
		done(o)
		return
	}
	go done(o)
}

// answer lets the push service answer all that waits.
func (p *pusher) answer() {
	p.mu.Lock()
	pending := p.pending
	p.pending = nil
	p.mu.Unlock()
	for _, f := range pending {
		f()
	}
	synctest.Wait()
}

func (p *pusher) App(_ pnparam.Provider, app string, _ pnparam.Environment) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return app, !p.unserved
}
func (p *pusher) Offers(string) []push.Offer {
	return []push.Offer{{Provider: pnparam.APNs}, {Provider: pnparam.FCM}}
}
func (p *pusher) Policy(pnparam.Provider, string, pnparam.Environment) push.Policy { return p.policy }
func (p *pusher) Load() float64                                                    { return p.load }

func (p *pusher) sent() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for _, r := range p.requests {
		to := r.Token.Reveal()
		if r.Service != "" {
			to = string(r.Service)
		}
		list = append(list, string(r.Kind)+" "+to)
	}
	return list
}

// node records signals and answers as it is told.
type node struct {
	mu      sync.Mutex
	answer  wake.Signal
	answers []wake.Signal // the next ones, before answer
	err     error
	takes   time.Duration // how long an answer takes
	busy    int           // signals under way
	busiest int
	signals []string
	last    wake.Registration
	forced  bool
}

func (n *node) Wake(ctx context.Context, w wake.Wake, r wake.Registration, force bool) (wake.Signal, error) {
	n.mu.Lock()
	n.last, n.forced = r, force
	n.mu.Unlock()
	name := r.Device
	if name == "" {
		name = r.Contact
	}
	return n.signal(ctx, "wake "+w.Node+" "+strings.TrimPrefix(name, "urn:uuid:"), n.answer)
}

func (n *node) GiveUp(ctx context.Context, w wake.Wake) (wake.Signal, error) {
	return n.signal(ctx, "give_up "+w.Node, wake.SignalOK)
}

func (n *node) TellOver(ctx context.Context, w wake.Wake, reason wake.EndReason, r wake.Registration, _ bool) (wake.Signal, error) {
	return n.signal(ctx, "over "+r.Node+" "+strings.TrimPrefix(r.Device, "urn:uuid:")+" "+w.CallID+" "+string(reason), wake.SignalTold)
}

func (n *node) Alert(ctx context.Context, w wake.Wake, code int, text string) (wake.Signal, error) {
	return n.signal(ctx, fmt.Sprintf("alert %s %d %s", w.Node, code, text), wake.SignalOK)
}

func (n *node) Probe(context.Context) error { return nil }

func (n *node) signal(ctx context.Context, what string, answer wake.Signal) (wake.Signal, error) {
	n.mu.Lock()
	n.signals = append(n.signals, what)
	n.busy++
	n.busiest = max(n.busiest, n.busy)
	if len(n.answers) > 0 {
		answer, n.answers = n.answers[0], n.answers[1:]
	}
	err, takes := n.err, n.takes
	n.mu.Unlock()
	if takes > 0 {
		timer := time.NewTimer(takes)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			err = ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy--
	return answer, err
}

func (n *node) set(f func(*node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

func (n *node) told() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.signals)
}

// others records what the other instances are told.
type others struct {
	mu      sync.Mutex
	events  []wake.Event
	pushed  []string
	recheck []wake.Wake
}

func (o *others) Publish(e wake.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

func (o *others) Pushed(_ wake.Wake, device string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pushed = append(o.pushed, strings.TrimPrefix(device, "urn:uuid:"))
}

func (o *others) Recheck(w wake.Wake) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.recheck = append(o.recheck, w)
}

// onlyVoIP is an iPhone that gave no remote token.
func onlyVoIP(device string) string {
	return fmt.Sprintf(`<sip:bob@192.0.2.1:5060;pn-provider=apns;pn-param=TEAM123456.%s.voip;pn-prid=%s>;+sip.instance="<urn:uuid:%s>"`,
		app, strings.Repeat("a", 64), device)
}

func (r *rig) bindings() []wake.Binding {
	r.t.Helper()
	list, err := r.service.Bindings(r.t.Context(), bob, secret.Token{})
	if err != nil {
		r.fatal("bindings: %v", err)
	}
	return list
}

func (r *rig) binding(device string) wake.Binding {
	r.t.Helper()
	for _, b := range r.bindings() {
		if b.Device == instance(device) {
			return b
		}
	}
	r.fatal("no binding of device %q", device)
	return wake.Binding{}
}

func deadline(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

func (r *rig) stop() {
	ctx, cancel := deadline(r.t, time.Minute)
	defer cancel()
	if err := r.service.Stop(ctx); err != nil {
		r.t.Errorf("stop: %v", err)
	}
}

// quick has another user's phone register, and waits for nothing.
func (r *rig) quick(aor, contact, node string) {
	r.t.Helper()
	r.cseq++
	_, err := r.service.Register(r.t.Context(), wake.RegisterParams{Node: node, AOR: aor, Contact: contact, CSeq: r.cseq,
		CallID: "registration", Expires: 3600})
	if err != nil {
		r.fatal("register: %v", err)
	}
}

func (r *rig) startQuick(aor, call, node string) {
	r.t.Helper()
	_, err := r.service.Start(r.t.Context(), wake.StartParams{Node: node, AOR: aor, CallID: "call-" + call, Call: call, Kind: push.Call})
	if err != nil {
		r.fatal("start: %v", err)
	}
}

// refuse is the outcome of a push whose token is dead.
func refuse(push.Request) push.Outcome {
	return push.Outcome{Reply: push.Reply{Reason: push.TokenDead}, Tries: 1}
}

// sleep lets time pass, and what is due then happen.
func (r *rig) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// lockedLog is a log that can be read while it is written.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// heard returns the events so far.
func (o *others) heard() []wake.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

// forget forgets the events so far.
func (o *others) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = nil
}

// atOnce returns how many signals were under way at once, at most.
func (n *node) atOnce() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.busiest
}

// latest returns the registration that was told last, and whether it was forced.
func (n *node) latest() (wake.Registration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last, n.forced
}

func (r *rig) timelines(q trace.Query) []trace.Timeline {
	found, _ := r.traces.Find(q)
	return found
}

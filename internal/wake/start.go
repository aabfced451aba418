package wake

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // as RFC 9562 defines version 5; it protects nothing
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/chat"
	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/sipuri"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/push"
)

// StartParams are the parameters of wake.start: a request that a node holds.
type StartParams struct {
	Node   string
	AOR    string
	CallID string
	Call   string // the node's own key of the held request
	// Kind is Call for an INVITE, Chat for a MESSAGE, and Refresh for any other
	// request: its push only makes the phone register.
	Kind    push.Kind
	From    string // From URI
	Display string // From display name
	To      string // To URI: who was called
	// Headers are raw headers of the request that its pushes may show, keyed by name.
	// The Privacy header is included, and honoured.
	Headers map[string]string
	Media   string
	// Body is the body of a MESSAGE, ContentType its raw header. Without a
	// ContentType the body is plain text. Priority is the raw header of an INVITE or
	// MESSAGE: with Config.PSAPCallback, a callback from an emergency service (RFC
	// 7090) is neither limited nor shed.
	Body        string
	ContentType string
	Priority    string
	// Instance limits the request to one device, in any spelling of a +sip.instance
	// or of a GRUU's gr parameter (RFC 5627). Empty means every device of the AOR.
	Instance string
	// Contact also limits the request to one device, named as in Live, for a node
	// that knows no Instance of it.
	Contact string
	// PURR names the device, and with it the user, by the value of its +sip.pnspurr;
	// for push.Refresh, AOR is then ignored. Other requests are limited to that device
	// if it is one of AOR's.
	PURR string
	// Source is the flow, as in Binding, on which that device did not answer a
	// request within a dialog: a recent registration on this flow is no sign of life.
	Source string
	// Live are the contacts already being rung, each named by the Call-ID of its
	// registration or by its Contact URI.
	Live []string
	// Again means that the node asks once more, because the wake may be known only to
	// an instance that has ended: its store was unavailable, or its answer did not
	// arrive.
	Again bool
	// Ringing are the contacts that have answered so far, named as in Live.
	Ringing []string
	Hold    time.Duration // how long the node can hold; 0: no limit
	// TraceParent is the W3C trace context of the request, empty if it has none.
	TraceParent string
}

// Outcome is the answer to wake.start.
type Outcome string

// The outcomes of wake.start.
const (
	OutcomePushing   Outcome = "pushing"   // pushes are on their way
	OutcomeAwake     Outcome = "awake"     // the devices look awake; those that do not respond are pushed
	OutcomeNone      Outcome = "none"      // there is nobody to wake
	OutcomeDuplicate Outcome = "duplicate" // the devices have already been pushed for this call
	OutcomeShed      Outcome = "shed"      // not pushed because of the load or a limit
)

var (
	outcomes   = []Outcome{OutcomePushing, OutcomeAwake, OutcomeNone, OutcomeDuplicate, OutcomeShed}
	startKinds = []push.Kind{push.Call, push.Chat, push.Refresh}
)

// StartResult is the result of wake.start.
type StartResult struct {
	Outcome Outcome
	Devices int           // that have not just registered
	Hold    time.Duration // how long to hold; 0: do not wait
	Cached  bool          // the store is unavailable: these are the devices known here
	UUID    string        // the request's id in pushes
	AOR     string        // of the PURR; empty without one
}

// Start wakes the sleeping devices of an AOR for a held request. It returns once
// the wake is stored and the pushes are queued; it never waits for a push service.
func (s *Service) Start(ctx context.Context, p StartParams) (StartResult, error) {
	var named string
	if p.PURR != "" && p.Kind == push.Refresh {
		var err error
		if p.AOR, p.Instance, err = s.byPURR(ctx, p.PURR); err != nil {
			return StartResult{}, err
		}
		if p.Instance == "" {
			s.metrics.started[startLabels{p.Kind, OutcomeNone}].Inc()
			return StartResult{Outcome: OutcomeNone}, nil
		}
		named = p.AOR
	} else if p.PURR != "" {
		if err := s.limitTo(ctx, &p); err != nil {
			return StartResult{}, err
		}
	}
	res, err := s.start(ctx, p)
	res.AOR = named
	return res, err
}

// limitTo limits a new request for the Contact of a device, such as a call that replaces
// another one (RFC 3891), to the device that its PURR names. The PURR of a device that has
// gone does not count.
func (s *Service) limitTo(ctx context.Context, p *StartParams) error {
	aor, device, err := s.byPURR(ctx, p.PURR)
	p.PURR = ""
	if err != nil || device == "" {
		return err
	}
	if own, err := CleanAOR(p.AOR); err == nil && own == aor {
		p.Instance = device
	}
	return nil
}

func (s *Service) start(ctx context.Context, p StartParams) (StartResult, error) {
	w, node, err := s.newWake(p)
	if err != nil {
		return StartResult{}, err
	}
	if s.nobody(&w, &p) {
		return s.answer(w, StartResult{Outcome: OutcomeNone}), nil
	}
	if cl := s.calls.get(w.key()); cl != nil {
		return s.repeated(&w, !cl.stored.Load()), nil
	}
	// Before the store is asked: a flood must not cost it anything.
	caller := CallerOf(w.From)
	if over := s.limits.Over(&s.settings.Load().Limits, caller, w.AOR, w.StartedAt); over != "" && !w.Urgent {
		s.traces.Begin(w.head())
		s.limited(&w, over)
		s.logUnheld(w, OutcomeShed, nil)
		return s.answer(w, StartResult{Outcome: OutcomeShed}), nil
	}
	if p.Contact != "" && w.Instance == "" {
		if w.Instance, err = s.device(ctx, w.AOR, p.Contact); err != nil {
			return StartResult{}, err
		}
		if w.Instance == "" {
			s.noDevice(&w)
			return s.answer(w, StartResult{Outcome: OutcomeNone}), nil
		}
	}
	// The call is opened before the store knows it: a wake.end that arrives in
	// between must stop the pushes.
	cl := s.open(w, node, caller)
	if cl == nil {
		return s.repeated(&w, true), nil
	}
	cl.settled = p.Again // another instance may have pushed, so we cannot know when to give up
	began := time.Now()
	st, err := s.store.Start(ctx, w)
	s.latency.observe(began)
	if err != nil {
		s.close(w.key())
		s.traces.Begin(w.head())
		s.event(&w, trace.StoreAway, "", "")
		if errors.Is(err, ErrUnavailable) && s.others != nil {
			s.others.Recheck(w)
		}
		return StartResult{}, err
	}
	cl.stored.Store(!st.Cached)
	res := s.wakeDevices(cl, &p, s.registered(w.only(p.withinDialog(st))))
	res.Cached = st.Cached
	cl.setOutcome(res.Outcome)
	switch res.Outcome {
	case OutcomePushing, OutcomeAwake:
		return s.answer(w, res), nil
	case OutcomeNone, OutcomeShed:
		s.close(w.key())
		s.countResults(cl, deviceEnded)
		s.logUnheld(w, res.Outcome, cl)
		if !st.Ended && !st.Full {
			if _, err := s.store.End(ctx, w.AOR, w.Node, w.Call); err != nil {
				s.repeats.Warn("cannot end a wake that is not held", "aor", w.AOR, "call_id", w.CallID, "err", err)
			}
		}
	case OutcomeDuplicate:
		s.close(w.key())
	}
	return s.answer(w, res), nil
}

// nobody reports whether the request has no recipient: a message without text for a
// person, or a device that cannot be called this way. It replaces the body of a
// message with its text.
func (s *Service) nobody(w *Wake, p *StartParams) bool {
	if p.Kind == push.Chat && (p.ContentType != "" || p.Priority != "") {
		text, wanted := chat.Read(cmp.Or(p.ContentType, "text/plain"), p.Priority, p.Body)
		if w.Body = text; !wanted {
			s.traces.Begin(w.head())
			s.event(w, trace.Unread, "", "")
			s.logUnheld(*w, OutcomeNone, nil)
			return true
		}
	}
	if p.Instance != "" && w.Instance == "" {
		s.noDevice(w)
		return true
	}
	return false
}

// noDevice records that the user has no device that the request is for.
func (s *Service) noDevice(w *Wake) {
	s.traces.Begin(w.head())
	s.event(w, trace.OneDevice, "", "")
}

// withinDialog removes from st, for a request within a dialog, registrations on the
// flow on which the device was not reached.
func (p *StartParams) withinDialog(st Started) Started {
	switch {
	case p.PURR != "":
		st.Recent = nil // we do not know which of its flows was tried
	case p.Source != "":
		st.Recent = slices.DeleteFunc(slices.Clone(st.Recent), func(r Registration) bool { return r.Source == p.Source })
	default:
		return st
	}
	st.Forked = false // of its INVITE, whose end we have not heard of, or of another request in it
	return st
}

// device returns the device that a node names by a Call-ID or a Contact URI, in the
// form of pnparam.Instance, or "" if the user has no such device.
func (s *Service) device(ctx context.Context, aor, name string) (string, error) {
	list, err := s.store.Bindings(ctx, Query{AOR: aor})
	for i := range list {
		if list[i].named(name) {
			return pnparam.Instance(list[i].Device), nil
		}
	}
	return "", err
}

// psapCallback is the Priority of RFC 7090 section 5.
const psapCallback = "psap-callback"

// registered removes from st, in strict RFC 8599 mode, the devices that are not
// registered (section 5.3).
func (s *Service) registered(st Started) Started {
	if s.settings.Load().Strict {
		now := time.Now()
		st.Bindings = slices.DeleteFunc(slices.Clone(st.Bindings), func(b Binding) bool { return !b.ExpiresAt.After(now) })
	}
	return st
}

// urgent reports whether this is an emergency callback that the configuration
// trusts.
func (s *Service) urgent(p *StartParams) bool {
	return s.settings.Load().PSAPCallback && p.Kind == push.Call && strings.EqualFold(strings.TrimSpace(p.Priority), psapCallback)
}

func (s *Service) newWake(p StartParams) (Wake, Node, error) {
	node, err := s.node(p.Node)
	if err != nil {
		return Wake{}, nil, err
	}
	aor, err := CleanAOR(p.AOR)
	if err != nil {
		return Wake{}, nil, err
	}
	if err := CheckID("call_id", p.CallID); err != nil {
		return Wake{}, nil, err
	}
	if err := CheckID("call", p.Call); err != nil {
		return Wake{}, nil, err
	}
	if !slices.Contains(startKinds, p.Kind) {
		return Wake{}, nil, &ParamError{"kind", `must be "call", "chat" or "refresh"`}
	}
	if p.Hold < 0 {
		return Wake{}, nil, &ParamError{"hold_s", "must not be negative"}
	}
	hold := s.settings.Load().MaxHold
	if p.Hold > 0 {
		hold = min(hold, p.Hold)
	}
	now := time.Now()
	return Wake{ID: wakeID(aor, p), AOR: aor, Node: p.Node, Call: p.Call, CallID: p.CallID, Kind: p.Kind,
		StartedAt: now, Deadline: now.Add(hold), Owner: s.instance,
		Instance: pnparam.Instance(p.Instance), From: p.From, Display: p.Display, Media: p.Media, Body: p.Body,
		To: oneLine(p.To, maxHeaderValue), Headers: callHeaders(p.Headers), Verstat: verstat(p.Headers, p.From),
		Urgent: s.urgent(&p), TraceParent: p.TraceParent}, node, nil
}

// wakeID returns the id of a held request's wake. It is the same on every instance,
// so that a phone that gets pushes from two instances sees one call. This happens
// when the store is unavailable and each instance starts the call from its own
// memory.
func wakeID(aor string, p StartParams) string {
	var room [512]byte
	text := append(room[:0], uuid.Nil[:]...) // the namespace
	text = append(append(append(text, p.Node...), 0), p.Call...)
	text = append(append(append(text, 0), p.CallID...), 0)
	text = append(append(append(text, p.Kind...), 0), aor...)
	sum := sha1.Sum(text)
	id := uuid.UUID(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x50, id[8]&0x3f|0x80 // version 5 of RFC 9562
	return id.String()
}

// repeated answers a wake.start for a call that is open here.
func (s *Service) repeated(w *Wake, cached bool) StartResult {
	s.metrics.started[startLabels{w.Kind, OutcomeDuplicate}].Inc()
	return StartResult{Outcome: OutcomeDuplicate, Hold: w.Deadline.Sub(w.StartedAt), Cached: cached, UUID: w.ID}
}

func (s *Service) answer(w Wake, res StartResult) StartResult {
	s.metrics.started[startLabels{w.Kind, res.Outcome}].Inc()
	if res.Outcome == OutcomeShed {
		s.traces.Begin(w.head())
	}
	s.traces.SetOutcome(w.ID, string(res.Outcome))
	res.UUID = w.ID
	return res
}

// wakeDevices signals the devices that have just registered and pushes the rest.
func (s *Service) wakeDevices(cl *call, p *StartParams, st Started) StartResult {
	w := &cl.wake
	hold := w.Deadline.Sub(w.StartedAt)
	switch {
	case st.Ended:
		return StartResult{Outcome: OutcomeNone}
	case st.Full:
		return StartResult{Outcome: OutcomeShed}
	case st.Duplicate:
		return StartResult{Outcome: OutcomeDuplicate, Devices: len(st.Bindings), Hold: hold}
	}
	s.traces.Begin(w.head())
	cl.event(trace.Held, "", w.Node)
	if w.Instance != "" {
		cl.event(trace.OneDevice, "", w.Instance)
	}
	if st.Cached {
		cl.event(trace.Cached, "", "the store is away")
	}
	for i := range st.Recent {
		r := &st.Recent[i]
		cl.add(r.key(), bindingOf(r))
		s.traces.Add(w.ID, trace.Event{At: r.RegisteredAt, Name: trace.Awake, Device: r.Device, Detail: r.Source})
	}
	n := s.pushDevices(cl, p, st)
	switch {
	case n.pushing > 0:
	case len(st.Recent)+n.delayed+n.back > 0:
	case st.Forked && n.asleep > 0:
		// The other branch of the fork knows when to give up.
		return StartResult{Outcome: OutcomeDuplicate, Devices: n.asleep, Hold: hold}
	case n.shed > 0:
		return StartResult{Outcome: OutcomeShed, Devices: n.asleep}
	default:
		return StartResult{Outcome: OutcomeNone, Devices: n.asleep}
	}
	for i := range st.Recent {
		s.signal(w, &st.Recent[i], false)
	}
	s.follow(cl, cl.allQueued())
	if n.pushing > 0 {
		return StartResult{Outcome: OutcomePushing, Devices: n.asleep, Hold: hold}
	}
	return StartResult{Outcome: OutcomeAwake, Devices: n.asleep, Hold: hold}
}

// tally counts a call's devices by what happened to them.
type tally struct {
	asleep                 int // have not just registered
	back                   int // came back before wake.start knew of them
	pushing, delayed, shed int
}

// pushDevices queues the pushes of a call.
func (s *Service) pushDevices(cl *call, p *StartParams, st Started) (n tally) {
	for i := range st.Bindings {
		b := &st.Bindings[i]
		recent := find(st.Recent, b.Device)
		if recent == nil {
			n.asleep++
		}
		if st.Forked {
			cl.event(trace.Forked, b.Device, "")
			continue
		}
		if !cl.add(b.Device, b) {
			n.back++
			continue
		}
		if named(p.Ringing, b) {
			cl.setRings(b.Device)
			cl.setBack(b.Device)
			n.back++
			continue
		}
		switch s.pushOrDelay(cl, b, recent, p.Live) {
		case pushSent:
			n.pushing++
		case pushDelayed:
			if recent == nil {
				n.delayed++
			}
		case pushShed:
			n.shed++
		}
	}
	return n
}

// mayPush reports whether the call is within the limits. The call is counted when
// its first push is due, so a call with nobody to push costs nothing.
func (s *Service) mayPush(cl *call) bool {
	if cl.wake.Urgent {
		return true
	}
	cl.limit.Do(func() {
		over := s.limits.Take(&s.settings.Load().Limits, cl.caller, cl.wake.AOR, time.Now())
		if cl.over = over != ""; cl.over {
			s.limited(&cl.wake, over)
		}
	})
	return !cl.over
}

// limited records that a call is not pushed because it exceeds a limit.
func (s *Service) limited(w *Wake, over limit.CallLimit) {
	s.metrics.limited.WithLabelValues(string(over)).Inc()
	s.event(w, trace.Limited, "", fmt.Sprintf("%s %d", over, s.settings.Load().Limits.Of(over)))
}

// pushOrDelay queues the device's push at once, or after a delay if the device looks
// awake or another one may take the message. A recent REGISTER is no proof: the
// phone may be asleep again.
func (s *Service) pushOrDelay(cl *call, b *Binding, recent *Registration, live []string) attempt {
	chatWaits := cl.wake.Kind == push.Chat && s.policy(b).Chat == push.ChatNoAnswer && len(live) > 0
	if recent == nil && !chatWaits && !named(live, b) {
		return s.pushForCall(cl, b)
	}
	after, key := s.settings.Load().PushDelay, b.Device
	cl.event(trace.Withheld, key, after.String())
	cl.delay(key, after, func() {
		if cl.ctx.Err() == nil {
			s.pushForCall(cl, b)
		}
	})
	return pushDelayed
}

// named reports whether the device is among the contacts named by a node.
func named(contacts []string, b *Binding) bool { return slices.ContainsFunc(contacts, b.named) }

// named reports whether a Call-ID or Contact URI from a node is this device's.
func (b *Binding) named(name string) bool { return name == b.CallID || name == b.Contact }

// key identifies the device of a registration, even one without push.
func (r *Registration) key() string {
	if r.Device != "" {
		return r.Device
	}
	return r.Contact
}

// bindingOf returns the binding that a registration left, or nil.
func bindingOf(r *Registration) *Binding {
	if r.Action != ActionBind {
		return nil
	}
	return &r.Binding
}

// find returns the registration of the device, or nil.
func find(list []Registration, device string) *Registration {
	for i := range list {
		if list[i].Device == device {
			return &list[i]
		}
	}
	return nil
}

// values returns the values for its push templates.
func (w *Wake) values() push.Values {
	return push.Values{AOR: w.AOR, From: w.From, User: sipuri.Dial(w.From), Display: w.Display,
		CallID: w.CallID, UUID: w.ID, Media: w.Media, Body: w.Body,
		CalledURI: w.To, Called: sipuri.Dial(w.To), Headers: w.Headers, Verstat: w.Verstat}
}

package wake

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/secret"
)

// StartParams are the parameters of wake.start: a request that a node holds.
type StartParams struct {
	Node    string
	AOR     string
	CallID  string
	Call    string // the node's own key of the held request
	Kind    push.Kind
	From    string // From URI
	Display string // From display name
	To      string
	Media   string
	Body    string // text of a MESSAGE
	// Live are the contacts being rung already, each named by the Call-ID of its
	// registration or by its Contact URI.
	Live []string
	Hold time.Duration // how long the node can hold; 0: as long as we like
}

// Outcome is what wake.start answers.
type Outcome string

// The outcomes of wake.start.
const (
	Pushing   Outcome = "pushing"   // pushes are on their way
	Awake     Outcome = "awake"     // the devices have just registered; the node is being signalled
	Nobody    Outcome = "none"      // there is nobody to wake
	Duplicate Outcome = "duplicate" // the devices have been pushed for this call already
	Shed      Outcome = "shed"      // not pushed: too much to do
)

var (
	outcomes   = []Outcome{Pushing, Awake, Nobody, Duplicate, Shed}
	startKinds = []push.Kind{push.Call, push.Chat}
)

// StartResult is the result of wake.start.
type StartResult struct {
	Outcome Outcome
	Devices int           // that can be pushed
	Hold    time.Duration // how long to hold; 0: do not wait
	Cached  bool          // the store is away: these are the devices known here
}

// Start wakes the sleeping devices of an AOR for a held request. It returns once
// the wake is stored and the pushes are queued; it never waits for a provider.
func (s *Service) Start(ctx context.Context, p StartParams) (StartResult, error) {
	node, err := s.node(p.Node)
	if err != nil {
		return StartResult{}, err
	}
	w, err := s.newWake(p)
	if err != nil {
		return StartResult{}, err
	}
	// The call is open before the store knows it: a wake.end that comes between
	// the two must stop the pushes.
	cl := s.newCall(w, node)
	if cl == nil {
		return s.answer(w, StartResult{Outcome: Duplicate, Hold: w.Deadline.Sub(w.StartedAt)}), nil
	}
	began := time.Now()
	st, err := s.store.Start(ctx, w)
	s.pace.observe(began)
	if err != nil {
		s.endCall(w.key())
		if errors.Is(err, ErrUnavailable) {
			s.lookAfter(w)
		}
		return StartResult{}, err
	}
	res := s.wakeDevices(cl, p.Live, st)
	res.Cached = st.Cached
	if res.Outcome != Pushing && res.Outcome != Awake {
		s.endCall(w.key())
	}
	if (res.Outcome == Nobody || res.Outcome == Shed) && !st.Ended && !st.Full {
		if _, err := s.store.End(ctx, w.AOR, w.Node, w.Call); err != nil {
			s.log.Warn("cannot end a wake that is not held", "aor", w.AOR, "call_id", w.CallID, "err", err)
		}
	}
	return s.answer(w, res), nil
}

func (s *Service) newWake(p StartParams) (Wake, error) {
	aor, err := cleanAOR(p.AOR)
	if err != nil {
		return Wake{}, err
	}
	if err := checkID("call_id", p.CallID); err != nil {
		return Wake{}, err
	}
	if err := checkID("call", p.Call); err != nil {
		return Wake{}, err
	}
	if p.Kind != push.Call && p.Kind != push.Chat {
		return Wake{}, &ParamError{"kind", `must be "call" or "chat"`}
	}
	if p.Hold < 0 {
		return Wake{}, &ParamError{"hold_s", "must not be negative"}
	}
	hold := s.settings.Load().MaxHold
	if p.Hold > 0 {
		hold = min(hold, p.Hold)
	}
	now := time.Now()
	return Wake{ID: uuid.NewString(), AOR: aor, Node: p.Node, Call: p.Call, CallID: p.CallID, Kind: p.Kind,
		StartedAt: now, Deadline: now.Add(hold), Owner: s.instance,
		From: p.From, Display: p.Display, Media: p.Media, Body: p.Body}, nil
}

func (s *Service) answer(w Wake, res StartResult) StartResult {
	s.metrics.wakes.WithLabelValues(string(w.Kind), string(res.Outcome)).Inc()
	if res.Outcome == Shed {
		s.traces.start(w)
	}
	s.traces.setOutcome(w, res.Outcome)
	return res
}

// wakeDevices signals the devices that have just registered and pushes the rest.
func (s *Service) wakeDevices(cl *call, live []string, st Started) StartResult {
	w := cl.wake
	res := StartResult{Hold: w.Deadline.Sub(w.StartedAt)}
	switch {
	case st.Ended:
		return StartResult{Outcome: Nobody}
	case st.Full:
		return StartResult{Outcome: Shed}
	case st.Duplicate:
		res.Outcome, res.Devices = Duplicate, len(st.Bindings)
		return res
	}
	s.traces.start(w)
	s.traces.add(w, w.StartedAt, eventHeld, "", w.Node)
	if st.Cached {
		s.traces.add(w, w.StartedAt, eventCached, "", "the store is away")
	}
	for _, r := range st.Recent {
		cl.add(r.key(), bindingOf(r))
		s.traces.add(w, r.RegisteredAt, eventAwake, r.Device, r.Source)
	}
	pushing, withheld, shed := 0, 0, 0
	stormy := s.stormy(cl, st)
	for _, b := range st.Bindings {
		if awake(st.Recent, b.Device) {
			continue
		}
		res.Devices++
		if st.Forked || stormy {
			continue
		}
		cl.add(b.Device, b)
		switch s.pushOrWithhold(cl, b, live) {
		case sent:
			pushing++
		case waits:
			withheld++
		case refusedByLoad:
			shed++
		}
	}
	switch {
	case pushing > 0:
		res.Outcome = Pushing
	case len(st.Recent)+withheld > 0:
		res.Outcome = Awake
	case st.Forked && res.Devices > 0:
		res.Outcome = Duplicate
		return res // the other branch of the fork knows when to give up
	case shed > 0 || stormy:
		return StartResult{Outcome: Shed, Devices: res.Devices}
	default:
		return StartResult{Outcome: Nobody, Devices: res.Devices}
	}
	for _, r := range st.Recent {
		s.signal(w, r)
	}
	s.follow(cl, cl.allQueued())
	return res
}

// attempt is what became of a push at once.
type attempt int

const (
	refused       attempt = iota
	refusedByLoad         // it would have been sent at a lower load
	waits                 // for the device to prove that it is awake
	sent                  // queued
)

// pushOrWithhold queues the device's push, now or, if the device is being rung
// or another one may take the message, in a while.
func (s *Service) pushOrWithhold(cl *call, b Binding, live []string) attempt {
	policy := s.pusher.Policy(b.Address.Provider, b.Address.App, b.Address.Environment)
	chatWaits := cl.wake.Kind == push.Chat && policy.Chat == push.ChatNoAnswer && len(live) > 0
	if !rung(live, b) && !chatWaits {
		return s.pushDevice(cl, b, policy)
	}
	after := s.settings.Load().Withhold
	s.traces.add(cl.wake, time.Now(), eventWithheld, b.Device, after.String())
	cl.withhold(b.Device, after, func() {
		if cl.ctx.Err() == nil {
			s.pushDevice(cl, b, policy)
		}
	})
	return waits
}

func rung(live []string, b Binding) bool {
	for _, l := range live {
		if l == b.CallID || l == b.Contact {
			return true
		}
	}
	return false
}

// key names the device of a registration, also of one without push.
func (r Registration) key() string {
	if r.Device != "" {
		return r.Device
	}
	return r.Contact
}

// bindingOf returns the binding that a registration left, zero if it left none.
func bindingOf(r Registration) Binding {
	if r.Action != Bind {
		return Binding{}
	}
	return r.Binding
}

func awake(recent []Registration, device string) bool {
	for _, r := range recent {
		if r.Device == device {
			return true
		}
	}
	return false
}

// pushDevice queues the device's push.
func (s *Service) pushDevice(cl *call, b Binding, policy push.Policy) attempt {
	s.traces.add(cl.wake, time.Now(), eventPushing, b.Device, string(b.Address.Provider))
	req, reason := s.request(b, cl.wake.Kind, cl.values, cl.wake.Deadline, policy)
	if reason != "" {
		s.pushed(cl, b, req, push.Outcome{Reason: reason})
		if reason == push.ByPolicy && s.level() >= overload {
			return refusedByLoad
		}
		return refused
	}
	s.pusher.Push(cl.ctx, req, func(o push.Outcome) { s.pushed(cl, b, req, o) })
	switch cl.refusal(b.Device) {
	case "":
		return sent
	case push.QueueFull:
		return refusedByLoad
	}
	return refused
}

// refusal is why the device's push was refused at once, empty if it was not. A
// push that was tried and failed already counts as sent: the node hears of it by
// a signal.
func (cl *call) refusal(key string) push.Reason {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.devices[key].refusal
}

// request makes the push of a kind to a device. A reason says why there is none:
// the device has no token for it, or the app's policy is against it.
func (s *Service) request(b Binding, k push.Kind, v push.Values, deadline time.Time, policy push.Policy) (push.Request, push.Reason) {
	req := push.Request{Kind: k, Provider: b.Address.Provider, App: b.Address.App,
		Environment: b.Address.Environment, Values: v, Deadline: deadline}
	req.Service, req.Token = tokenFor(b.Address, k)
	req.Keys = b.Address.Keys
	if req.Token.Empty() {
		return req, push.NoToken
	}
	if denied(b.Address.Denied, k) {
		return req, push.ByPolicy
	}
	if !policy.Allows(k, int(s.level())) {
		return req, push.ByPolicy
	}
	return req, ""
}

// denied tells whether the client does not want pushes of a kind.
func denied(d pnparam.Denied, k push.Kind) bool {
	switch k {
	case push.Call, push.Cancel:
		return d.Calls
	case push.Chat, push.Custom:
		return d.Messages
	}
	return false
}

// tokenFor picks the token of the device for a kind of push. An APNs voip token
// is only ever used for a call; without one a call goes to the remote token, as
// an alert.
func tokenFor(a pnparam.Address, k push.Kind) (pnparam.Service, secret.Token) {
	services := []pnparam.Service{""}
	if a.Provider == pnparam.APNs {
		services = []pnparam.Service{pnparam.Remote}
		if k == push.Call {
			services = []pnparam.Service{pnparam.VoIP, pnparam.Remote}
		}
	}
	for _, svc := range services {
		if t := a.Token(svc); !t.Empty() {
			return svc, t
		}
	}
	return "", secret.Token{}
}

func values(w Wake) push.Values {
	return push.Values{AOR: w.AOR, From: w.From, User: userPart(w.From), Display: w.Display,
		CallID: w.CallID, UUID: w.ID, Media: w.Media, Body: w.Body}
}

package wake

import (
	"context"
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
	Body    string        // text of a MESSAGE
	Hold    time.Duration // how long the node can hold; 0: as long as we like
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
	if s.sheds(w.Kind) {
		return s.answer(w, StartResult{Outcome: Shed}), nil
	}
	// The call is open before the store knows it: a wake.end that comes between
	// the two must stop the pushes.
	cl := s.newCall(w, node)
	if cl == nil {
		return s.answer(w, StartResult{Outcome: Duplicate, Hold: w.Deadline.Sub(w.StartedAt)}), nil
	}
	st, err := s.store.Start(ctx, w)
	if err != nil {
		s.endCall(w.key())
		return StartResult{}, err
	}
	res := s.wakeDevices(cl, p, st)
	if res.Outcome != Pushing && res.Outcome != Awake {
		s.endCall(w.key())
	}
	if res.Outcome == Nobody && !st.Ended {
		if _, err := s.store.End(ctx, w.AOR, w.Node, w.Call); err != nil {
			s.log.Warn("cannot end a wake for nobody", "aor", w.AOR, "call_id", w.CallID, "err", err)
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
		StartedAt: now, Deadline: now.Add(hold)}, nil
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
func (s *Service) wakeDevices(cl *call, p StartParams, st Started) StartResult {
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
	for _, r := range st.Recent {
		cl.set(r.key(), waiting)
		s.traces.add(w, r.RegisteredAt, eventAwake, r.Device, r.Source)
	}
	pushing := 0
	for _, b := range st.Bindings {
		if awake(st.Recent, b.Device) {
			continue
		}
		res.Devices++
		if !st.Forked && s.pushDevice(cl, b, values(p, w)) {
			pushing++
		}
	}
	switch {
	case pushing > 0:
		res.Outcome = Pushing
	case len(st.Recent) > 0:
		res.Outcome = Awake
	case st.Forked && res.Devices > 0:
		res.Outcome = Duplicate
		return res // the other branch of the fork knows when to give up
	default:
		res.Outcome, res.Hold = Nobody, 0
		return res
	}
	for _, r := range st.Recent {
		s.signal(w, r)
	}
	s.follow(cl, cl.allQueued())
	return res
}

// key names the device of a registration, also of one without push.
func (r Registration) key() string {
	if r.Device != "" {
		return r.Device
	}
	return r.Contact
}

func awake(recent []Registration, device string) bool {
	for _, r := range recent {
		if r.Device == device {
			return true
		}
	}
	return false
}

// pushDevice queues the device's push; false if it was refused at once.
func (s *Service) pushDevice(cl *call, b Binding, v push.Values) bool {
	req := push.Request{Kind: cl.wake.Kind, Provider: b.Address.Provider, App: b.Address.App,
		Environment: b.Address.Environment, Values: v, Deadline: cl.wake.Deadline}
	req.Service, req.Token = tokenFor(b.Address, req.Kind)
	cl.set(b.Device, waiting)
	s.traces.add(cl.wake, time.Now(), eventPushing, b.Device, string(req.Provider))
	if req.Token.Empty() {
		s.pushed(cl, b, req, push.Outcome{Reason: push.NoToken})
		return false
	}
	s.pusher.Push(cl.ctx, req, func(o push.Outcome) { s.pushed(cl, b, req, o) })
	return cl.state(b.Device) != unreachable
}

func (cl *call) state(device string) deviceState {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.devices[device]
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

func values(p StartParams, w Wake) push.Values {
	return push.Values{AOR: w.AOR, From: p.From, User: userPart(p.From), Display: p.Display,
		CallID: w.CallID, UUID: w.ID, Media: p.Media, Body: p.Body}
}

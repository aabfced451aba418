package wake

import (
	"context"
	"slices"
	"time"
)

// Peers is what a store offers to several instances that share it, so that any
// of them completes what another one began. Safe for concurrent use.
//
// An instance lives as long as it says so (Beat). The wakes of one that no longer
// does are adopted, each by one other. What an instance hears that only the owner
// of a wake can act on, it tells all (Tell).
type Peers interface {
	// Beat says that the instance lives for ttl from now on. It returns the
	// instances that live, this one among them, and those whose time is over
	// and that may own wakes yet. If nobody could beat for a while, the store
	// was away, and all get ttl to say that they live.
	Beat(ctx context.Context, instance string, ttl time.Duration) (living, dead []string, err error)
	// Leave ends the instance's time at once.
	Leave(ctx context.Context, instance string) error
	// Adopt makes owner that of every wake of a dead instance that has not ended,
	// those past their deadline too, and calls f with each, from the caller's
	// goroutine, and with what Start would answer now; Forked is as it was answered
	// first. Of several callers one gets it.
	Adopt(ctx context.Context, dead, owner string, f func(Wake, Started)) error
	// Reread returns what Start would return now for a wake that was started: its
	// AOR's bindings and recent registrations; Forked is as it was answered first.
	// Ended says that it has ended, or has another owner than w has.
	Reread(ctx context.Context, w Wake) (Started, error)
	// Pushed notes in the wake that the device's push was accepted, so that
	// an instance that adopts it does not push again. It does not wait.
	Pushed(w Wake, device string)
	// Tell sends the news to every instance that listens now. It does not wait,
	// and the news may be lost.
	Tell(n News)
	// Listen calls f with the news of all instances, one after the other, until
	// ctx ends. What is told while the connection is away is lost.
	Listen(ctx context.Context, f func(News)) error
}

// News is what one instance heard about a wake of another.
type News struct {
	Name NewsName
	Node string
	Call string
	AOR  string
	// Device that is back, with NewsBack; the contact that rings, with
	// NewsRings; the reason, with NewsEnded.
	Detail string
	// Timelines answer a question for traces.
	Timelines []Timeline `json:",omitempty"`
}

// NewsName says what happened.
type NewsName string

// What happens to a wake.
const (
	NewsEnded NewsName = "ended"
	NewsRings NewsName = "rings"
	NewsBack  NewsName = "back"

	newsAsk   NewsName = "ask" // for the timelines of AOR, or of the Call-ID in Call
	newsTrace NewsName = "trace"
)

const (
	beatEvery = time.Second
	beatTTL   = 3 * time.Second
	// clockSkew is how far the clocks of instances may differ. A device that came
	// back so long before its wake may be signalled for it once more, which the
	// node answers with "dup".
	clockSkew = time.Second
	// adoptPatience bounds one look after the wakes of others.
	adoptPatience = 10 * time.Second
	// A write that got no answer may be carried out after a read that came later,
	// by so much at most: a server that was halted works off what has queued up.
	lateWrite = time.Second
)

// Share lets the instances that share the store work as one: it says that this
// one lives, hears what others hear of its wakes, and adopts the wakes of those
// that died. It returns when ctx ends; then the others may adopt this one's.
// Without Peers it returns at once.
func (s *Service) Share(ctx context.Context) {
	if s.peers == nil {
		return
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		s.listen(ctx)
	}()
	var known []string
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		known = s.beat(ctx, known)
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	<-heard
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), storePatience)
	defer cancel()
	if err := s.peers.Leave(leave, s.instance); err != nil {
		s.log.Warn("cannot hand over wakes", "err", err) // they are adopted a moment later
	}
}

// beat says that this instance lives and acts on the end of others. It returns
// those that live.
func (s *Service) beat(ctx context.Context, known []string) []string {
	ctx, cancel := context.WithTimeout(ctx, adoptPatience)
	defer cancel()
	living, dead, err := s.peers.Beat(ctx, s.instance, beatTTL)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("cannot reach the other instances", "err", err)
		}
		return known
	}
	s.metrics.instances.Set(float64(len(living)))
	s.others.Store(int64(len(living) - 1))
	if slices.ContainsFunc(known, func(id string) bool { return !slices.Contains(living, id) }) {
		s.reread(ctx)
	}
	for _, id := range dead {
		n := 0
		err := s.peers.Adopt(ctx, id, s.instance, func(w Wake, st Started) {
			n++
			s.adopt(w, st)
		})
		if n > 0 {
			s.log.Warn("wakes of an instance that ended adopted", "instance", id, "wakes", n)
		}
		if err != nil {
			s.log.Warn("cannot adopt wakes", "instance", id, "err", err) // the next beat tries again
		}
	}
	return living
}

// adopt goes on with a wake that another instance started, or whose Start got no
// answer: devices that have come back since are signalled, those whose push is not
// known to be accepted are pushed. It tells whether the wake was not open here yet.
func (s *Service) adopt(w Wake, st Started) bool {
	node, err := s.node(w.Node)
	if err != nil {
		s.log.Error("cannot adopt wake", "aor", w.AOR, "call_id", w.CallID, "node", w.Node, "err", err)
		return true
	}
	if !w.Deadline.After(time.Now()) {
		return true // it rings: there is nobody to push or to signal any more
	}
	cl := s.newCall(w, node)
	if cl == nil {
		return false
	}
	s.metrics.adopted.Inc()
	s.traces.start(w)
	s.traces.add(w, time.Now(), eventAdopted, "", s.instance)
	came := cameBack(w, st)
	for _, r := range came {
		cl.add(r.key(), bindingOf(r))
	}
	for _, b := range st.Bindings {
		if awake(came, b.Device) {
			continue
		}
		cl.add(b.Device, b)
		if slices.Contains(w.Pushed, b.Device) {
			cl.accepted(b.Device, nil)
			continue
		}
		s.pushDevice(cl, b, s.pusher.Policy(b.Address.Provider, b.Address.App, b.Address.Environment))
	}
	for _, r := range came {
		s.signal(w, r)
	}
	s.follow(cl, cl.allQueued())
	return true
}

// lookAfter goes on with a wake whose Start got no answer, if the store has it all
// the same: the node may have asked another instance meanwhile, and that one was
// told that the wake is under way.
func (s *Service) lookAfter(w Wake) {
	if s.peers == nil {
		return
	}
	s.spawn(func() { // without a slot the wake is lost, as it is for the node
		ctx, cancel := context.WithDeadline(s.ctx, w.Deadline)
		defer cancel()
		var absent time.Time
		_, _ = s.retry(ctx, func(int) (Signal, bool, error) {
			select {
			case <-s.stop:
				return "", true, nil // it is this instance's: the next one adopts it
			default:
			}
			st, err := s.peers.Reread(ctx, w)
			switch {
			case err != nil:
				return "", false, err
			case !st.Ended:
				// A repeated wake.start may be open here for a moment.
				return "", s.adopt(w, st), nil
			case absent.IsZero():
				absent = time.Now()
			}
			return "", time.Since(absent) > lateWrite, nil
		})
	})
}

// cameBack returns the devices that have registered since the wake was started,
// or just before.
func cameBack(w Wake, st Started) []Registration {
	came := st.Recent
	since := w.StartedAt.Add(-clockSkew)
	for _, b := range st.Bindings {
		if b.RegisteredAt.After(since) && b.ExpiresAt.After(time.Now()) && !awake(came, b.Device) {
			came = append(came, Registration{Binding: b, Action: Bind})
		}
	}
	return came
}

// reread looks for devices that came back to this instance's wakes through one that
// ended, maybe before it could signal them.
func (s *Service) reread(ctx context.Context) {
	for _, cl := range s.calls.all() {
		st, err := s.peers.Reread(ctx, cl.wake)
		if err != nil {
			s.log.Warn("cannot look after wake", "aor", cl.wake.AOR, "call_id", cl.wake.CallID, "err", err)
			continue
		}
		if st.Ended {
			continue // its news is on the way
		}
		for _, r := range cameBack(cl.wake, st) {
			if !cl.isBack(r.key()) {
				s.signal(cl.wake, r)
			}
		}
	}
}

// listen hears the news of other instances until ctx ends.
func (s *Service) listen(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		if err := s.peers.Listen(ctx, s.hear); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot hear the other instances", "err", err)
		}
		if time.Since(began) > maxPause {
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// hear acts on news of a wake that this instance owns.
func (s *Service) hear(n News) {
	w := Wake{Node: n.Node, Call: n.Call, AOR: n.AOR}
	switch n.Name {
	case NewsEnded:
		if cl := s.endCall(w.key()); cl != nil {
			s.traces.setReason(cl.wake, EndReason(n.Detail))
			s.aftermath(cl, EndReason(n.Detail))
		}
	case NewsRings:
		if cl := s.calls.get(w); cl != nil {
			s.rings(cl, n.Detail)
		}
	case newsAsk:
		if !s.questions.own(n.Detail) {
			s.peers.Tell(News{Name: newsTrace, Detail: n.Detail, Timelines: s.traces.find(n.AOR, n.Call)})
		}
	case newsTrace:
		s.questions.answer(n.Detail, n.Timelines)
	case NewsBack:
		if cl := s.calls.get(w); cl != nil {
			s.follow(cl, cl.set(n.Detail, back))
		}
	}
}

// announce sends news of a wake that is not this instance's.
func (s *Service) announce(w Wake, name NewsName, detail string) {
	if s.peers != nil {
		s.peers.Tell(News{Name: name, Node: w.Node, Call: w.Call, AOR: w.AOR, Detail: detail})
	}
}

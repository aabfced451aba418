package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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

// shared is a Store in memory, for several instances.
type shared struct {
	mu        sync.Mutex
	lives     map[string]time.Time
	left      []string
	owned     map[string][]wake.Wake // by instance
	started   wake.Started           // what Reread and Adopt say
	takes     time.Duration          // how long a wake takes to be read or adopted
	beats     map[string][]time.Time
	err       error
	listeners []chan Message
	reread    int
	pushed    []string
}

func newShared() *shared {
	return &shared{lives: map[string]time.Time{}, owned: map[string][]wake.Wake{}, beats: map[string][]time.Time{}}
}

var _ Store = (*shared)(nil)

func (s *shared) Beat(_ context.Context, instance string, ttl time.Duration) (living, dead []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, nil, s.err
	}
	now := time.Now()
	s.beats[instance] = append(s.beats[instance], now)
	s.lives[instance] = now.Add(ttl)
	for id, until := range s.lives {
		if until.Before(now) {
			dead = append(dead, id)
		} else {
			living = append(living, id)
		}
	}
	return living, dead, nil
}

func (s *shared) Leave(_ context.Context, instance string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, instance)
	s.lives[instance] = time.Time{}
	return s.err
}

func (s *shared) Adopt(ctx context.Context, dead, owner string, f func(wake.Wake, wake.Started)) error {
	for {
		s.mu.Lock()
		if s.err != nil || len(s.owned[dead]) == 0 {
			delete(s.lives, dead)
			s.mu.Unlock()
			return s.err
		}
		w := s.owned[dead][0]
		s.owned[dead] = s.owned[dead][1:]
		w.Owner = owner
		s.owned[owner] = append(s.owned[owner], w)
		st, takes := s.started, s.takes
		s.mu.Unlock()
		pause(ctx, takes)
		f(w, st)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (s *shared) Reread(ctx context.Context, w wake.Wake) (wake.Started, error) {
	s.mu.Lock()
	s.reread++
	st, takes, err := s.started, s.takes, s.err
	s.mu.Unlock()
	pause(ctx, takes)
	return st, err
}

func (s *shared) Pushed(_ wake.Wake, device string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushed = append(s.pushed, device)
}

func (s *shared) Publish(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l <- m
	}
}

func (s *shared) Listen(ctx context.Context, f func(Message)) error {
	l := make(chan Message, 100)
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	for {
		select {
		case m := <-l:
			f(m)
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			s.listeners = slices.DeleteFunc(s.listeners, func(o chan Message) bool { return o == l })
			return nil
		}
	}
}

func (s *shared) set(f func(*shared)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// rules is the part of a store, a node and a push service that these tests need.
type rules struct {
	wake.Store
	wake.Sweeper
}

func (rules) Start(context.Context, wake.Wake) (wake.Started, error) { return wake.Started{}, nil }
func (rules) End(context.Context, string, string, string) (wake.Ended, error) {
	return wake.Ended{}, nil
}

type edge struct{}

func (edge) Wake(context.Context, wake.Wake, wake.Registration, bool) (wake.Signal, error) {
	return wake.SignalAdded, nil
}
func (edge) GiveUp(context.Context, wake.Wake) (wake.Signal, error) { return wake.SignalOK, nil }
func (edge) TellOver(context.Context, wake.Wake, wake.EndReason, wake.Registration, bool) (wake.Signal, error) {
	return wake.SignalTold, nil
}
func (edge) Alert(context.Context, wake.Wake, int, string) (wake.Signal, error) {
	return wake.SignalOK, nil
}
func (edge) Probe(context.Context) error { return nil }

type pushes struct{}

func (pushes) Push(_ context.Context, _ push.Request, done func(push.Outcome)) {
	done(push.Outcome{Reply: push.Reply{Reason: push.Accepted}, Tries: 1})
}
func (pushes) App(_ pnparam.Provider, app string, _ pnparam.Environment) (string, bool) {
	return app, true
}
func (pushes) Offers(string) []push.Offer                                       { return nil }
func (pushes) Policy(pnparam.Provider, string, pnparam.Environment) push.Policy { return push.Policy{} }
func (pushes) Load() float64                                                    { return 0 }

type instance struct {
	*Cluster
	rules *wake.Service
	stop  func()
}

// start runs an instance until its stop is called.
func start(t *testing.T, s *shared) *instance {
	var cfg wake.Config
	cfg.SetDefaults()
	reg, log := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	i := &instance{}
	i.Cluster = New(s, log, reg)
	i.rules = wake.New(cfg, map[string]wake.Node{"sip1": edge{}}, wake.Deps{Store: rules{}, Sweeper: rules{}, Pusher: pushes{},
		Others: i.Cluster, Traces: trace.NewLog(10), Log: log, Metrics: reg})
	i.SetService(i.rules)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		i.Run(ctx)
	}()
	i.stop = func() {
		cancel()
		<-done
		if err := i.rules.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
	return i
}

func newWake(call, owner string) wake.Wake {
	return wake.Wake{ID: "id-" + call, AOR: "bob@example.com", Node: "sip1", Call: call, CallID: "call-" + call, Kind: push.Call,
		StartedAt: time.Now(), Deadline: time.Now().Add(40 * time.Second), Owner: owner}
}

// bindings returns a wake's answer with one device that sleeps.
func bindings() wake.Started {
	return wake.Started{Bindings: []wake.Binding{{AOR: "bob@example.com", Device: "d", Address: pnparam.Address{Provider: pnparam.FCM,
		Tokens: []pnparam.Token{{Value: secret.NewToken("token")}}}}}}
}

// An instance that dies is found dead, and its wakes go to one other.
func TestTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared()
		s.started = bindings()
		one, two := start(t, s), start(t, s)
		defer one.stop()
		defer two.stop()
		s.set(func(s *shared) {
			s.lives["dead"] = time.Now()
			s.owned["dead"] = []wake.Wake{newWake("a", "dead"), newWake("b", "dead")}
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(one.rules.OpenWakes()) + len(two.rules.OpenWakes()); n != 2 {
			t.Errorf("%d wakes were adopted", n)
		}
	})
}

// An instance that adopts many wakes, each slowly, goes on saying that it lives.
func TestBeatWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared()
		s.started, s.takes = bindings(), 2*time.Millisecond
		one, two := start(t, s), start(t, s)
		defer one.stop()
		defer two.stop()
		for i := range 2000 { // calls that one has open itself, to be read again
			one.rules.Adopt(newWake("own"+string(rune(i)), one.rules.Instance()), bindings())
		}
		s.set(func(s *shared) {
			s.lives["dead"] = time.Now().Add(time.Second)
			for i := range 2000 {
				s.owned["dead"] = append(s.owned["dead"], newWake("dead"+string(rune(i)), "dead"))
			}
		})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for id, beats := range s.beats {
			for i := range beats[1:] {
				if gap := beats[i+1].Sub(beats[i]); gap > beatTTL/2 {
					t.Errorf("%s said nothing for %s", id, gap)
				}
			}
		}
		if n := len(one.rules.OpenWakes()) + len(two.rules.OpenWakes()); n != 4000 {
			t.Errorf("%d wakes are open", n)
		}
		if s.reread < 2000 {
			t.Errorf("%d wakes were read again", s.reread)
		}
	})
}

// Who stops hands over as its last act.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared()
		one := start(t, s)
		one.stop()
		if !slices.Equal(s.left, []string{one.rules.Instance()}) {
			t.Errorf("left are %q", s.left)
		}
		s.err = errors.New("away")
		two := start(t, s)
		time.Sleep(10 * time.Second)
		two.stop()
	})
}

// What one instance hears of another's wake is told.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared()
		one, two := start(t, s), start(t, s)
		defer one.stop()
		defer two.stop()
		w := newWake("a", one.rules.Instance())
		one.rules.Adopt(w, bindings())
		two.Publish(wake.Event{Type: wake.EventEnded, Node: w.Node, Call: w.Call, AOR: w.AOR, Detail: "answered"})
		synctest.Wait()
		if n := len(one.rules.OpenWakes()); n != 0 {
			t.Errorf("%d wakes are open", n)
		}
		if !slices.Equal(s.pushed, []string{"d"}) {
			t.Errorf("noted pushes are %q", s.pushed)
		}
	})
}

// A wake whose Start got no answer is looked after if the store has it.
func TestRecheck(t *testing.T) {
	f := func(open int, change func(s *shared), later func(s *shared)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := newShared()
			s.started = bindings()
			one := start(t, s)
			defer one.stop()
			s.set(change)
			one.Recheck(newWake("a", one.rules.Instance()))
			time.Sleep(500 * time.Millisecond)
			s.set(later)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if n := len(one.rules.OpenWakes()); n != open {
				t.Errorf("%d wakes are open, want %d", n, open)
			}
		})
	}
	nothing := func(*shared) {}
	f(1, nothing, nothing)
	f(1, func(s *shared) { s.started.Ended = true }, func(s *shared) { s.started.Ended = false }) // written late
	f(1, func(s *shared) { s.err = errors.New("away") }, func(s *shared) { s.err = nil })
	f(0, func(s *shared) { s.started.Ended = true }, nothing)
}

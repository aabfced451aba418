package push_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// A flood of chat, with a service that answers nothing, neither refuses nor
// delays a call.
func TestCallsPassAFlood(t *testing.T) {
	g := gated()
	r := newRig(t, fcmApp(g, func(a *push.App) { a.Limits = push.Limits{Queue: 10, InFlight: 4} }))
	full := 0
	for range 100 {
		r.Push(t.Context(), request(push.Chat), func(o push.Outcome) {
			if o.Reason == push.QueueFull {
				full++ // only Push itself calls done for that
			}
		})
	}
	if want := 100 - 10 - 3; full != want {
		t.Errorf("%d of 100 chats refused, want %d: 3 in flight and 10 queued", full, want)
	}
	for range 3 {
		<-g.started
	}
	r.wantMetric(`sipwake_push_queue_rejected_total{app="com.example.phone",environment="",lane="rest",provider="fcm"} 87`)
	if got := r.Load(); got != 1 {
		t.Errorf("Load() = %v with a full queue", got)
	}

	first := r.start(t.Context(), request(push.Call))
	if got := <-g.started; got != "call" {
		t.Fatalf("a %s was sent, want the call", got)
	}
	second := r.start(t.Context(), request(push.Call)) // no slot is left: it is the next
	g.open <- struct{}{}
	if got := <-g.started; got != "call" {
		t.Errorf("a %s was sent before the queued call", got)
	}
	if got := r.Apps()[0]; got.Queued != 10 || got.InFlight != 4 {
		t.Errorf("app: %+v", got)
	}
	close(g.open)
	<-first
	<-second
	r.stop()
	if got := r.Load(); got != 0 {
		t.Errorf("Load() = %v after all is done", got)
	}
}

func TestLoadOfBusyAppIsHalf(t *testing.T) {
	g := gated()
	r := newRig(t, fcmApp(g, func(a *push.App) { a.Limits = push.Limits{InFlight: 2} }))
	for range 2 {
		r.start(t.Context(), request(push.Call))
		<-g.started
	}
	if got := r.Load(); got != 0.5 {
		t.Errorf("Load() = %v with all slots taken and nothing queued", got)
	}
	close(g.open)
	r.stop()
}

// Whatever happens at once (pushes, cancels, new apps, stop), every done is
// called once.
func TestDoneIsCalledExactlyOnce(t *testing.T) {
	const goroutines, each = 16, 500
	reasons := []push.Reason{push.Accepted, push.Accepted, push.TokenDead, push.Throttled, push.Unavailable, push.Timeout}
	newClient := func() *service {
		return &service{answer: func(ctx context.Context, _ *push.Notification) push.Reply {
			if rand.IntN(20) == 0 {
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond):
				}
			}
			return push.Reply{Reason: reasons[rand.IntN(len(reasons))]}
		}}
	}
	app := func(generation int) push.App {
		return fcmApp(newClient(), func(a *push.App) {
			a.Fingerprint = fmt.Sprint(generation / 2)
			a.Limits = push.Limits{Queue: 200, InFlight: 8, BreakerFailures: 20}
		})
	}
	r := newRig(t, app(0))
	var counts [goroutines * each]atomic.Int32
	var kinds = push.Kinds()
	var work, changes sync.WaitGroup
	for g := range goroutines {
		work.Go(func() {
			for i := range each {
				ctx, cancel := context.WithCancel(context.Background())
				req := request(kinds[rand.IntN(len(kinds))])
				req.Deadline = time.Now().Add(rand.N(200 * time.Millisecond))
				r.Push(ctx, req, func(push.Outcome) { counts[g*each+i].Add(1) })
				if rand.IntN(2) == 0 {
					go cancel()
				} else {
					defer cancel()
				}
			}
		})
	}
	stopChanges := make(chan struct{})
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stopChanges:
				return
			default:
			}
			if err := r.SetApps([]push.App{app(i)}); err != nil {
				t.Error(err)
			}
			r.metrics()
			r.Load()
		}
	})
	work.Wait()
	close(stopChanges)
	changes.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_ = r.Stop(ctx) // whether all was done by then is chance
	for i := range counts {
		if n := counts[i].Load(); n != 1 {
			t.Fatalf("done of push %d was called %d times", i, n)
		}
	}
}

func TestStopFinishesWhatIsQueued(t *testing.T) {
	g := gated()
	r := newRig(t, fcmApp(g, func(a *push.App) { a.Limits = push.Limits{InFlight: 2} }))
	var held []<-chan push.Outcome
	for range 20 {
		held = append(held, r.start(t.Context(), request(push.Call)))
	}
	<-g.started
	stopped := make(chan error)
	go func() { stopped <- r.Stop(context.Background()) }()
	for ok := true; ok; _, ok = r.App(pnparam.FCM, theApp, "") { // until Stop has begun
		runtime.Gosched()
	}
	if o := r.send(request(push.Call)); o.Reason != push.ShutDown {
		t.Errorf("push after Stop: %+v", o)
	}
	close(g.open)
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
	accepted := 0
	for _, h := range held {
		if o := <-h; o.Reason == push.Accepted {
			accepted++
		}
	}
	if accepted != 20 || g.closed.Load() != 1 {
		t.Errorf("%d of 20 were sent, client closed %d times", accepted, g.closed.Load())
	}
	if err := r.SetApps(nil); err == nil {
		t.Error("SetApps works after Stop")
	}
	if got := r.metrics(); got != "" {
		t.Errorf("metrics are left after Stop: %s", got)
	}
}

func TestStopGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := silent()
		r := newRig(t, fcmApp(s, func(a *push.App) { a.Limits = push.Limits{InFlight: 2, BreakerFailures: 100} }))
		busy := r.start(t.Context(), request(push.Chat))
		synctest.Wait()
		queued := r.start(t.Context(), request(push.Chat))
		time.Sleep(5*time.Second + time.Millisecond) // the first is on its way to a second try
		synctest.Wait()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := r.Stop(ctx); err == nil || !strings.Contains(err.Error(), "cannot finish all pushes") {
			t.Errorf("Stop: %v", err)
		}
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("Stop took %v", took)
		}
		if a, b := <-busy, <-queued; a.Reason != push.ShutDown || a.Tries != 1 || b.Reason != push.ShutDown {
			t.Errorf("waiting push: %+v, push under way: %+v", a, b)
		}
	})
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var latest time.Time
		s := &service{}
		s.answer = func(ctx context.Context, n *push.Notification) push.Reply {
			latest = time.Now()
			if until, ok := ctx.Deadline(); !ok || until.After(n.Deadline) {
				t.Errorf("a try may last until %v, the push until %v", until, n.Deadline)
			}
			<-ctx.Done()
			return push.Reply{Reason: push.Timeout}
		}
		r := newRig(t, fcmApp(s, patient))
		defer r.stop()
		for _, kind := range push.Kinds() {
			for range 20 {
				req := request(kind)
				req.Deadline = time.Now().Add(rand.N(20 * time.Second))
				o := r.send(req)
				if latest.After(req.Deadline) || time.Now().After(req.Deadline) || o.Reason != push.Timeout {
					t.Fatalf("last try at %v and end at %v of a push until %v: %+v", latest, time.Now(), req.Deadline, o)
				}
			}
		}
		late := request(push.Call)
		late.Deadline = time.Now()
		before := s.tries.Load()
		if o := r.send(late); o.Reason != push.Expired || o.Tries != 0 || s.tries.Load() != before {
			t.Errorf("push after its deadline: %+v", o)
		}
	})
}

// What waits in the queue when its deadline passes or its call ends is not sent.
func TestQueuedPushIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gated()
		r := newRig(t, fcmApp(g, func(a *push.App) { a.Limits = push.Limits{InFlight: 2} }))
		defer r.stop()
		busy := r.start(t.Context(), request(push.Chat))
		ctx, cancel := context.WithCancel(t.Context())
		unwanted := r.start(ctx, request(push.Chat))
		late := request(push.Chat)
		late.Deadline = time.Now().Add(time.Second)
		expired := r.start(t.Context(), late)
		synctest.Wait()
		cancel()
		time.Sleep(time.Second)
		close(g.open)
		a, b, c := <-busy, <-unwanted, <-expired
		if a.Reason != push.Accepted || b.Reason != push.Dropped || c.Reason != push.Expired || g.tries.Load() != 1 {
			t.Errorf("outcomes %+v, %+v, %+v after %d tries", a, b, c, g.tries.Load())
		}
		if o := <-r.start(ctx, request(push.Call)); o.Reason != push.Dropped {
			t.Errorf("push whose context has ended: %+v", o)
		}
	})
}

func TestVoIPTokenIsOnlyPushedForACall(t *testing.T) {
	s := answers(push.Accepted)
	a := apnsApp(pnparam.Production, s, theApp)
	a.Default = true
	r := newRig(t, a)
	defer r.stop()
	for _, kind := range push.Kinds() {
		req := request(kind)
		req.Provider, req.Service = pnparam.APNs, pnparam.VoIP
		want := push.NoToken
		if kind == push.Call {
			want = push.Accepted
		}
		if o := r.send(req); o.Reason != want {
			t.Errorf("%s to a voip token: %+v", kind, o)
		}
	}
	empty := request(push.Call)
	empty.Provider, empty.Token = pnparam.APNs, secret.Token{}
	if o := r.send(empty); o.Reason != push.NoToken {
		t.Errorf("push without a token: %+v", o)
	}
}

func TestNotification(t *testing.T) {
	var got push.Notification
	s := &service{answer: func(_ context.Context, n *push.Notification) push.Reply {
		got = *n
		return push.Reply{Reason: push.Accepted, ID: "id-1"}
	}}
	a := apnsApp(pnparam.Production, s, theApp)
	a.Default = true
	r := newRig(t, a)
	defer r.stop()
	req := request(push.Chat)
	req.Provider, req.Service, req.Values.UUID = pnparam.APNs, pnparam.Remote, "uuid-1"
	if o := r.send(req); o.ID != "id-1" {
		t.Errorf("outcome %+v", o)
	}
	want := push.Notification{Kind: push.Chat, App: theApp, Service: pnparam.Remote, Token: req.Token, Payload: got.Payload,
		Deadline: req.Deadline, CollapseID: "uuid-1",
		Delivery: push.Delivery{Expires: req.Deadline, Priority: push.High, PushType: push.TypeAlert, Sound: "default"}}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || !strings.Contains(string(got.Payload), `"ncallid":"call-1"`) {
		t.Errorf("notification %+v\nwant %+v", got, want)
	}
	req.Kind, req.Service = push.Call, pnparam.VoIP
	if r.send(req); got.CollapseID != "" {
		t.Errorf("a voip push has the collapse id %q", got.CollapseID)
	}
}

func TestPayloadTooLongIsBadRequest(t *testing.T) {
	s := answers(push.Accepted)
	r := newRig(t, fcmApp(s))
	defer r.stop()
	req := request(push.Custom)
	req.Values.Data = map[string]string{"blob": strings.Repeat("x", 5000)}
	if o := r.send(req); o.Reason != push.BadRequest || o.Tries != 0 || o.Detail == "" || s.tries.Load() != 0 {
		t.Errorf("outcome %+v", o)
	}
}

// Not even a service that quotes the token gets it into a log or an outcome.
func TestTokenDoesNotLeak(t *testing.T) {
	s := &service{answer: func(_ context.Context, n *push.Notification) push.Reply {
		return push.Reply{Reason: push.TokenBad, Detail: "bad token " + n.Token.Reveal()}
	}}
	r := newRig(t, fcmApp(s))
	defer r.stop()
	o := r.send(request(push.Call))
	nowhere := request(push.Call)
	nowhere.App = "other"
	r.send(nowhere)
	all := r.log.String() + r.metrics() + fmt.Sprintf("%+v", o)
	if strings.Contains(all, theToken) {
		t.Errorf("the token leaks: %s", all)
	}
	if !strings.Contains(all, "token:") {
		t.Error("the log lacks the token's hash")
	}
}

func TestFailuresAreLoggedThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, fcmApp(answers(push.TokenDead)))
		defer r.stop()
		for range 50 {
			r.send(request(push.Call))
		}
		time.Sleep(11 * time.Second)
		r.send(request(push.Call))
		lines := r.log.lines("level=WARN")
		if len(lines) != 2 || strings.Contains(lines[0], "dropped=") || !strings.Contains(lines[1], "dropped=49") {
			t.Errorf("warnings for 51 failures:\n%s", strings.Join(lines, ""))
		}
		for _, want := range []string{"reason=token_dead", "detail=because", "call_id=call-1", "aor=bob@example.com",
			"provider=fcm", "app=" + theApp, "kind=call"} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("%q is missing in %s", want, lines[0])
			}
		}
	})
}

// A push that is urgent finds room in a queue that is full, and goes before what waits.
func TestUrgent(t *testing.T) {
	g := gated()
	r := newRig(t, fcmApp(g, func(a *push.App) { a.Limits = push.Limits{Queue: 2, InFlight: 1} }))
	var ended []<-chan push.Outcome
	for range 3 {
		ended = append(ended, r.start(t.Context(), request(push.Call)))
	}
	<-g.started
	urgent := request(push.Call)
	urgent.Urgent = true
	first := r.start(t.Context(), urgent)
	g.open <- struct{}{}
	<-g.started
	g.open <- struct{}{}
	if o := <-first; o.Reason != push.Accepted {
		t.Errorf("the urgent push ended as %s", o.Reason)
	}
	close(g.open)
	for _, e := range ended {
		<-e
	}
}

// Pushes that are urgent go in the order in which they came.
func TestUrgentInOrder(t *testing.T) {
	g := gated()
	var sent []string
	g.answer = func(_ context.Context, n *push.Notification) push.Reply {
		g.started <- ""
		<-g.open
		sent = append(sent, n.Token.Reveal()) // one at a time
		return push.Reply{Reason: push.Accepted}
	}
	r := newRig(t, fcmApp(g, func(a *push.App) { a.Limits = push.Limits{InFlight: 2} })) // one is kept for calls
	var ended []<-chan push.Outcome
	start := func(name string, urgent bool) {
		req := request(push.Chat)
		req.Token, req.Urgent = secret.NewToken(name), urgent
		ended = append(ended, r.start(t.Context(), req))
	}
	for _, round := range []string{"1", "2"} {
		start("first"+round, false)
		<-g.started
		start("c"+round, false)
		start("a"+round, true)
		start("d"+round, false)
		start("b"+round, true)
		for range 5 {
			g.open <- struct{}{}
		}
		for _, e := range ended {
			<-e
		}
		ended = nil
		for range 4 {
			<-g.started
		}
	}
	if got := strings.Join(sent, " "); got != "first1 a1 b1 c1 d1 first2 a2 b2 c2 d2" {
		t.Errorf("sent in the order %s", got)
	}
}

package push_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

func patient(a *push.App) { a.Limits.BreakerFailures = 1000 }

// recorded answers with the reply and notes when each try began.
func recorded(reply push.Reply) (*service, *[]time.Time) {
	var at []time.Time
	return &service{answer: func(context.Context, *push.Notification) push.Reply {
		at = append(at, time.Now())
		return reply
	}}, &at
}

func TestRetryOfACallComesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, reason := range []push.Reason{push.Unavailable, push.Timeout} {
			s, at := recorded(push.Reply{Reason: reason})
			r := newRig(t, fcmApp(s, patient))
			o := r.send(request(push.Call))
			if o.Reason != reason || o.Tries != 2 || len(*at) != 2 || !(*at)[0].Equal((*at)[1]) {
				t.Errorf("call that ends with %s: %+v, tries at %v", reason, o, *at)
			}
			r.wantMetric(`sipwake_push_retries_total{app="com.example.phone",provider="fcm"} 1`)
			r.wantMetric(`sipwake_push_total{app="com.example.phone",kind="call",provider="fcm",reason="` + string(reason) + `"} 1`)
			r.stop()
		}
	})
}

func TestRetryOfOthersBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, at := recorded(push.Reply{Reason: push.Unavailable})
		r := newRig(t, fcmApp(s, patient))
		defer r.stop()
		o := r.send(request(push.Chat))
		if o.Reason != push.Unavailable || o.Tries != 5 || len(*at) != 5 {
			t.Fatalf("outcome %+v, tries at %v", o, *at)
		}
		step := 500 * time.Millisecond
		for i := 1; i < len(*at); i++ {
			if gap := (*at)[i].Sub((*at)[i-1]); gap < step/2 || gap >= step {
				t.Errorf("pause %d is %v, want it between %v and %v", i, gap, step/2, step)
			}
			step *= 2
		}
	})
}

func TestRetryStopsAtSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, fcmApp(answers(push.Unavailable, push.Throttled, push.Accepted)))
		defer r.stop()
		if o := r.send(request(push.Chat)); o.Reason != push.Accepted || o.Tries != 3 {
			t.Errorf("outcome %+v", o)
		}
	})
}

func TestNoRetryOfFinalAnswers(t *testing.T) {
	for _, reason := range []push.Reason{push.TokenDead, push.TokenBad, push.BadRequest, push.Credential, "made up"} {
		s := answers(reason)
		r := newRig(t, fcmApp(s))
		want := reason
		if reason == "made up" {
			want = push.BadRequest // the set of reasons is closed
		}
		if o := r.send(request(push.Chat)); o.Reason != want || s.tries.Load() != 1 {
			t.Errorf("%s: %+v after %d tries", reason, o, s.tries.Load())
		}
		r.stop()
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(kind push.Kind, reply push.Reply, tries int, least time.Duration) {
			t.Helper()
			s, at := recorded(reply)
			r := newRig(t, fcmApp(s, patient))
			defer r.stop()
			o := r.send(request(kind))
			if o.Reason != reply.Reason || o.Tries != tries {
				t.Errorf("%s with %+v: %+v, want %d tries", kind, reply, o, tries)
			}
			for i := 1; i < len(*at); i++ {
				if gap := (*at)[i].Sub((*at)[i-1]); gap < least {
					t.Errorf("%s with %+v was tried again after %v", kind, reply, gap)
				}
			}
		}
		throttled := func(after time.Duration) push.Reply { return push.Reply{Reason: push.Throttled, RetryAfter: after} }
		f(push.Call, throttled(10*time.Second), 2, 10*time.Second)
		f(push.Call, throttled(2*time.Minute), 1, 0) // past the deadline: the caller need not wait to hear it
		f(push.Call, throttled(0), 2, 250*time.Millisecond)
		f(push.Call, push.Reply{Reason: push.Unavailable, RetryAfter: 3 * time.Second}, 2, 3*time.Second)
		f(push.Chat, throttled(25*time.Second), 3, 25*time.Second)
		f(push.Chat, throttled(2*time.Minute), 1, 0)
	})
}

// A stream that never answers costs a call half of its time at most, and no
// more than its own limit.
func TestTryTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(kind push.Kind, left time.Duration, want ...time.Duration) {
			t.Helper()
			var got []time.Duration
			s := &service{answer: func(ctx context.Context, _ *push.Notification) push.Reply {
				start := time.Now()
				<-ctx.Done()
				got = append(got, time.Since(start))
				return push.Reply{Reason: push.Timeout}
			}}
			r := newRig(t, fcmApp(s, patient, func(a *push.App) { a.Limits.Tries = 2 }))
			defer r.stop()
			req := request(kind)
			req.Deadline = time.Now().Add(left)
			r.send(req)
			if len(got) != len(want) {
				t.Fatalf("%s with %v left was tried for %v, want %v", kind, left, got, want)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("%s with %v left was tried for %v, want %v", kind, left, got, want)
				}
			}
		}
		f(push.Call, 30*time.Second, 2*time.Second, 5*time.Second)
		f(push.Call, 3*time.Second, 1500*time.Millisecond, 1500*time.Millisecond)
		f(push.Chat, 30*time.Second, 5*time.Second, 5*time.Second)
		f(push.Chat, 3*time.Second, 3*time.Second)
	})
}

func TestWaitHoldsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := answers(push.Throttled, push.Throttled, push.Throttled, push.Accepted)
		r := newRig(t, fcmApp(s, func(a *push.App) { a.Limits.InFlight, a.Limits.Queue = 2, 3 }))
		defer r.stop()
		var waiting []<-chan push.Outcome
		for range 3 {
			waiting = append(waiting, r.start(t.Context(), request(push.Chat)))
			synctest.Wait()
		}
		if got := r.Apps()[0]; got.Queued != 3 || got.InFlight != 0 {
			t.Errorf("three pushes wait, but the app is %+v", got)
		}
		if o := r.send(request(push.Chat)); o.Reason != push.QueueFull {
			t.Errorf("what waits for a try must count: %+v", o)
		}
		if o := r.send(request(push.Call)); o.Reason != push.Accepted {
			t.Errorf("call: %+v", o)
		}
		for _, w := range waiting {
			if o := <-w; o.Reason != push.Accepted || o.Tries != 2 {
				t.Errorf("waiting push: %+v", o)
			}
		}
	})
}

func TestCancelEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := recorded(push.Reply{Reason: push.Throttled, RetryAfter: 30 * time.Second})
		r := newRig(t, fcmApp(s))
		defer r.stop()
		ctx, cancel := context.WithCancel(t.Context())
		waiting := r.start(ctx, request(push.Call))
		synctest.Wait()
		start := time.Now()
		cancel()
		if o := <-waiting; o.Reason != push.Dropped || o.Tries != 1 || time.Since(start) != 0 {
			t.Errorf("after %v: %+v", time.Since(start), o)
		}
	})
}

func TestCancelDoesNotCutATry(t *testing.T) {
	g := gated()
	r := newRig(t, fcmApp(g))
	defer r.stop()
	ctx, cancel := context.WithCancel(t.Context())
	held := r.start(ctx, request(push.Call))
	<-g.started
	cancel()
	close(g.open)
	if o := <-held; o.Reason != push.Accepted {
		t.Errorf("outcome %+v", o)
	}
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(failures int, reason push.Reason) {
			t.Helper()
			works := false
			s := &service{}
			s.answer = func(context.Context, *push.Notification) push.Reply {
				if works {
					return push.Reply{Reason: push.Accepted}
				}
				return push.Reply{Reason: reason}
			}
			r := newRig(t, fcmApp(s, func(a *push.App) { a.Limits.Tries = 1 }))
			defer r.stop()
			state := func() string { return r.Apps()[0].Breaker }

			for i := range failures {
				if got := state(); got != "closed" {
					t.Fatalf("%s: breaker is %s after %d failures", reason, got, i)
				}
				r.send(request(push.Chat))
			}
			if got := state(); got != "open" {
				t.Fatalf("%s: breaker is %s after %d failures", reason, got, failures)
			}
			r.wantMetric(`sipwake_push_breaker_state{app="com.example.phone",environment="",provider="fcm"} 2`)
			tries := s.tries.Load()
			if o := r.send(request(push.Call)); o.Reason != push.BreakerOpen || s.tries.Load() != tries {
				t.Errorf("%s: push with an open breaker: %+v", reason, o)
			}
			time.Sleep(31 * time.Second)
			r.send(request(push.Chat)) // the probe fails
			if o := r.send(request(push.Chat)); o.Reason != push.BreakerOpen || s.tries.Load() != tries+1 {
				t.Errorf("%s: push after a failed probe: %+v", reason, o)
			}
			time.Sleep(31 * time.Second)
			works = true
			for range 2 {
				if o := r.send(request(push.Chat)); o.Reason != push.Accepted {
					t.Errorf("%s: push to a service that works again: %+v", reason, o)
				}
			}
			if got := state(); got != "closed" {
				t.Errorf("%s: breaker is %s after a success", reason, got)
			}
			if o, c := r.log.lines("breaker opened"), r.log.lines("breaker closed"); len(o) != 1 || len(c) != 1 {
				t.Errorf("%s: lines %q and %q, want one each", reason, o, c)
			}
		}
		f(5, push.Unavailable)
		f(5, push.Timeout)
		f(1, push.Credential)
	})
}

// Only one push goes out to see whether the service is back.
func TestBreakerProbesWithOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		first := true
		s := &service{answer: func(context.Context, *push.Notification) push.Reply {
			if first {
				first = false
				return push.Reply{Reason: push.Credential}
			}
			<-open
			return push.Reply{Reason: push.Accepted}
		}}
		r := newRig(t, fcmApp(s))
		defer r.stop()
		r.send(request(push.Call))
		time.Sleep(31 * time.Second)
		probe := r.start(t.Context(), request(push.Call))
		synctest.Wait()
		if o := r.send(request(push.Call)); o.Reason != push.BreakerOpen {
			t.Errorf("second push while the first one probes: %+v", o)
		}
		close(open)
		if o := <-probe; o.Reason != push.Accepted {
			t.Errorf("probe: %+v", o)
		}
	})
}

func TestBreakerStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(provider pnparam.Provider, reasons ...push.Reason) {
			t.Helper()
			s := answers(reasons...)
			r := newRig(t, push.App{Provider: provider, Packages: []string{theApp}, Client: s,
				Limits: push.Limits{Tries: 1}})
			defer r.stop()
			for range 20 {
				req := request(push.Chat)
				req.Provider = provider
				if o := r.send(req); o.Reason == push.BreakerOpen {
					t.Fatalf("%s opens the breaker of %s", reasons[0], provider)
				}
			}
		}
		f(pnparam.FCM, push.TokenDead)
		f(pnparam.FCM, push.TokenBad)
		f(pnparam.FCM, push.BadRequest)
		f(pnparam.FCM, push.Throttled)
		f(pnparam.FCM, push.Unavailable, push.Timeout, push.Unavailable, push.Timeout, push.Accepted)
		// Each WebPush token has its own server: a bad one says nothing of the rest.
		f(pnparam.WebPush, push.Credential)
		f(pnparam.WebPush, push.Timeout)
	})
}

// A push that is refused without asking the service does not show that it is back.
func TestRefusalOfOurOwnIsNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := answers(push.Credential, push.TokenBad, push.BadRequest)
		r := newRig(t, fcmApp(s))
		defer r.stop()
		r.send(request(push.Call))
		time.Sleep(31 * time.Second)
		for range 2 {
			r.send(request(push.Call))
			if state := r.Apps()[0].Breaker; state != "half-open" {
				t.Errorf("breaker is %s", state)
			}
		}
	})
}

// One push, to a token that the service fails at, does not open the breaker by its
// many tries; the next pushes that fail do.
func TestOnePushDoesNotOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, fcmApp(answers(push.Unavailable), func(a *push.App) {
			a.Limits = push.Limits{Tries: 20, BreakerFailures: 3}
		}))
		defer r.stop()
		send := func() push.Outcome {
			req := request(push.Chat)
			req.Deadline = time.Now().Add(time.Hour)
			return r.send(req)
		}
		for range 2 {
			if o := send(); o.Reason != push.Unavailable || o.Tries != 20 || r.Apps()[0].Breaker != "closed" {
				t.Fatalf("breaker %s after %+v", r.Apps()[0].Breaker, o)
			}
		}
		if o := send(); o.Tries != 1 || r.Apps()[0].Breaker != "open" {
			t.Errorf("breaker %s after %+v", r.Apps()[0].Breaker, o)
		}
	})
}

// A push that waited for another try and finds the breaker open ends with what
// its own try ended with.
func TestRetryMeetsOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, fcmApp(answers(push.Unavailable, push.Credential)))
		defer r.stop()
		waiting := r.start(t.Context(), request(push.Chat))
		synctest.Wait()
		if o := r.send(request(push.Call)); o.Reason != push.Credential {
			t.Errorf("call: %+v", o)
		}
		if o := <-waiting; o.Reason != push.Unavailable || o.Tries != 1 {
			t.Errorf("waiting push: %+v", o)
		}
	})
}

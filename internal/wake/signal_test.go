package wake_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// A signal is repeated inside the hold time until the node has taken it.
func TestInvariant3SignalIsRepeated(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.err = errors.New("connection refused") })
		r.register(phone("1"))
		r.sleep(20 * time.Second)
		before := len(r.node.told())
		if before < 20 || before > 40 {
			t.Errorf("%d tries in 20 s", before)
		}
		r.node.set(func(n *node) { n.err = nil })
		r.sleep(2 * time.Second)
		if n := len(r.node.told()); n != before+1 {
			t.Errorf("%d tries after the node was back", n-before)
		}
		r.wantEvent("a", trace.Signalled)
		if slices.Contains(r.events("a"), string(trace.Lost)) {
			t.Error("it is told as lost")
		}
	})
	inBubble(t, nil, func(r *rig) { // until the hold time is over
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.err = errors.New("connection refused") })
		r.register(phone("1"))
		r.sleep(r.config.MaxHold + time.Second)
		r.wantEvent("a", trace.Lost)
		n := len(r.node.told())
		r.sleep(time.Minute)
		if len(r.node.told()) != n {
			t.Error("the node is told after the hold time")
		}
		if !strings.Contains(r.log.String(), "connection refused") {
			t.Errorf("the log does not say why: %s", r.log)
		}
	})
}

// A node that refuses the secret is asked rarely: too many wrong ones in a minute have
// it refuse the right one too.
func TestSignalForbidden(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.err = fmt.Errorf("cannot signal: %w", wake.ErrForbidden) })
		r.register(phone("1"))
		r.sleep(4 * time.Second)
		if n := len(r.node.told()); n < 3 || n > 5 {
			t.Errorf("%d tries in 4 s", n)
		}
	})
}

// A node is asked for that very registration first, then for what it has.
func TestSignalForce(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.answer = wake.SignalNoContact })
		r.register(phone("1"))
		for i := 1; i <= 6; i++ {
			for len(r.node.told()) < i {
				r.sleep(time.Millisecond)
			}
			if _, forced := r.node.latest(); forced {
				t.Fatalf("try %d is forced", i)
			}
		}
		r.sleep(time.Second)
		if _, forced := r.node.latest(); !forced {
			t.Error("later tries are not forced")
		}
		r.node.set(func(n *node) { n.answer = wake.SignalAdded })
		r.sleep(2 * time.Second)
		r.wantEvent("a", trace.Signalled)
	})
}

// A newer REGISTER takes the place of the one that is being signalled.
func TestSignalNewerRegister(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.answer = wake.SignalNoContact })
		for range 100 {
			r.register(phone("1"))
		}
		first, _ := r.node.latest()
		r.node.set(func(n *node) { n.answer, n.signals = wake.SignalAdded, nil })
		r.sleep(2 * time.Second)
		if last, _ := r.node.latest(); first.CSeq != r.cseq || last.CSeq != r.cseq || len(r.node.told()) != 1 {
			t.Errorf("told of %d and %d, of %d, in %d signals", first.CSeq, last.CSeq, r.cseq, len(r.node.told()))
		}
	})
	inBubble(t, nil, func(r *rig) { // while a try is under way
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.takes = 100 * time.Millisecond })
		r.register(phone("1"))
		r.register(phone("1"))
		r.register(phone("1"))
		r.sleep(time.Second)
		r.wantSignals("wake sip1 1", "wake sip1 1")
		if last, _ := r.node.latest(); last.CSeq != r.cseq {
			t.Error("the newest registration was not told")
		}
	})
}

// A node that does not answer holds up nobody at another one.
func TestSignalDeadNodeHoldsUpNobody(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		dead := &node{takes: time.Hour}
		r.service.Configure(r.config, map[string]wake.Node{"sip1": r.node, "sip2": dead})
		for i := range 4300 {
			aor := fmt.Sprintf("user%d@example.com", i)
			r.quick(aor, phone(aor), "sip2")
			r.startQuick(aor, "call", "sip2")
			r.quick(aor, phone(aor), "sip2")
		}
		r.asleep(phone("1"))
		r.start("a")
		r.register(phone("1"))
		r.wantSignals("wake sip1 1")
		if dead.atOnce() != r.config.SignalsPerNode {
			t.Errorf("%d signals at once to the dead node, want %d", dead.atOnce(), r.config.SignalsPerNode)
		}
		if _, reasons := r.service.Load(); !slices.ContainsFunc(reasons, func(l wake.LoadReason) bool { return l.Name == "signals" && l.Share > .06 }) {
			t.Errorf("the load does not show it: %v", reasons)
		}
		// The node is back: what waited is told, within the hold time.
		dead.set(func(n *node) { n.takes = 0 })
		ended, cancel := deadline(r.t, time.Nanosecond)
		defer cancel()
		_ = r.service.Stop(ended)
	})
}

// A user with many wakes and REGISTERs holds up nobody else.
func TestSignalFlooderHoldsUpNobody(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.SignalsPerNode = 4 }, func(r *rig) {
		r.node.takes = 20 * time.Millisecond
		flooder := "mallory@example.com"
		r.quick(flooder, phone("9"), "sip1")
		for i := range 60 {
			r.startQuick(flooder, fmt.Sprint("flood-", i), "sip1")
		}
		r.asleep(phone("1"))
		r.start("a")
		for i := range 200 {
			r.quick(flooder, strings.Replace(phone("9"), "192.0.2.1", fmt.Sprint("192.0.2.", i), 1), "sip1")
		}
		began := time.Now()
		r.register(phone("1"))
		for !slices.Contains(r.node.told(), "wake sip1 1") {
			r.sleep(time.Millisecond)
		}
		if waited := time.Since(began); waited > 50*time.Millisecond {
			t.Errorf("another user's phone was signalled after %s", waited)
		}
		if r.node.atOnce() != 4 {
			t.Errorf("%d signals at once, want 4", r.node.atOnce())
		}
	})
}

// Everybody who waits for a slot is served in the end.
func TestSignalsWaitForSlots(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.SignalsPerNode = 2 }, func(r *rig) {
		var phones []string
		for i := range 20 {
			phones = append(phones, phone(fmt.Sprint(i)))
		}
		r.asleep(phones...)
		r.start("a")
		r.node.set(func(n *node) { n.takes = 100 * time.Millisecond })
		for _, p := range phones {
			r.register(p)
		}
		r.sleep(2 * time.Second)
		if n := len(r.node.told()); n != 20 || r.node.atOnce() != 2 {
			t.Errorf("%d signals, %d at once", n, r.node.atOnce())
		}
		r.sleep(r.config.Linger + time.Second)
		if told := r.node.told(); told[len(told)-1] != "give_up sip1" {
			t.Error("the node goes on holding though everybody is back")
		}
	})
}

// Strangers can make up devices: the signals of one wake are bounded.
func TestSignalsOfOneWakeAreBounded(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.err = errors.New("down") })
		for i := range 100 {
			r.register(fmt.Sprintf("<sip:desk@192.0.2.%d>", i))
		}
		if !strings.Contains(r.log.String(), "too busy") {
			t.Error("the log does not say why")
		}
	})
}

// No signal is sent for a call that has ended.
func TestSignalEndsWithItsCall(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.pusher.policy.Late = push.LateNothing
		r.asleep(phone("1"), phone("2"))
		r.start("a")
		r.node.set(func(n *node) { n.err = errors.New("down") })
		r.register(phone("1"))
		r.sleep(time.Second)
		r.end("a", wake.EndCancelled)
		n := len(r.node.told())
		r.sleep(time.Minute)
		if len(r.node.told()) != n {
			t.Error("the node is told of a call that is over")
		}
		// The phone came back for nothing: the log says why.
		r.wantEvent("a", trace.Lost)
		if strings.Count(r.log.String(), "cannot signal node") != 1 {
			t.Errorf("the log is %s", r.log)
		}
	})
	inBubble(t, nil, func(r *rig) { // while a try is under way
		r.pusher.policy.Late = push.LateNothing
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.takes = time.Second; n.err = errors.New("down") })
		r.register(phone("1"))
		r.end("a", wake.EndCancelled)
		r.sleep(time.Minute)
		r.wantSignals("wake sip1 1")
		r.wantEvent("a", trace.Lost)
	})
}

// What a node has to say to give_up.
func TestGiveUpIsRepeated(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.pusher.outcome = refuse
		r.node.answers = []wake.Signal{wake.SignalBusy, wake.SignalBusy, wake.SignalOK}
		r.start("a")
		r.sleep(time.Second)
		r.wantSignals("give_up sip1", "give_up sip1", "give_up sip1")
		r.wantEvent("a", trace.GaveUp)
	})
	inBubble(t, nil, func(r *rig) { // nobody takes it: the hold time ends the call
		r.asleep(phone("1"))
		r.pusher.outcome = refuse
		r.node.err = errors.New("down")
		r.start("a")
		r.sleep(time.Minute)
		if !strings.Contains(r.log.String(), "cannot tell node to stop holding") {
			t.Errorf("the log is %s", r.log)
		}
	})
}

// A node that answers that the request is gone, or that another one rings, ends
// nothing.
func TestSignalAnswers(t *testing.T) {
	f := func(answer wake.Signal, gaveUp bool) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"))
			r.start("a")
			r.node.set(func(n *node) { n.answer = answer })
			r.register(phone("1"))
			r.sleep(r.config.Linger + time.Second)
			if slices.Contains(r.node.told(), "give_up sip1") != gaveUp {
				r.fatal("%s: told is %q", answer, r.node.told())
			}
		})
	}
	f(wake.SignalAdded, true)
	f(wake.SignalDuplicate, true)
	f(wake.SignalGone, false)
	f(wake.SignalUnsent, false)
}

// A wake of another instance: the node is signalled from here, the owner is told.
func TestSignalForAnotherInstance(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		other := newRig(r.t, nil, r.store)
		defer other.stop()
		other.cseq = r.cseq
		other.register(phone("1"))
		other.wantSignals("wake sip1 1")
		if len(other.others.heard()) != 2 {
			t.Fatalf("published are %v", other.others.heard())
		}
		for _, e := range other.others.heard() {
			r.service.HandleEvent(e)
		}
		r.sleep(r.config.Linger + time.Second)
		r.wantSignals("give_up sip1")
	})
}

func TestSignalUnknownNode(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.service.Configure(r.config, map[string]wake.Node{"sip2": r.node})
		if nodes := r.service.Nodes(); !slices.Equal(nodes, []string{"sip2"}) {
			t.Errorf("nodes are %q", nodes)
		}
		if _, err := r.tryRegister(wake.RegisterParams{Contact: phone("1"), Node: "sip2"}); err != nil {
			t.Fatal(err)
		}
		r.wantEvent("a", trace.Lost)
	})
}

// Stop lets signals end, and says when it could not.
func TestStop(t *testing.T) {
	stop := func(t *testing.T, r *rig, within time.Duration) error {
		ctx, cancel := deadline(t, within)
		defer cancel()
		return r.service.Stop(ctx)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, newMemory())
		ctx, cancel := deadline(t, 0) // has ended already
		defer cancel()
		if err := r.service.Stop(ctx); err != nil {
			t.Errorf("nothing is under way: %v", err)
		}
		if err := r.service.Stop(ctx); err != nil {
			t.Errorf("twice: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, newMemory())
		r.asleep(phone("1"))
		r.start("a")
		r.node.set(func(n *node) { n.takes = 3 * time.Second })
		r.register(phone("1"))
		if err := stop(t, r, 10*time.Second); err != nil {
			t.Errorf("a signal could end: %v", err)
		}
		r.wantEvent("a", trace.Signalled)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, newMemory())
		r.asleep(phone("1"), phone("2"))
		r.start("a")
		r.node.set(func(n *node) { n.takes = time.Hour })
		r.register(phone("1"))
		go r.register(phone("2"))
		if err := stop(t, r, time.Second); err == nil {
			t.Error("no error though a signal was cut off")
		}
		if _, err := r.tryRegister(wake.RegisterParams{Contact: phone("2")}); err != nil {
			t.Errorf("a REGISTER after Stop: %v", err)
		}
		if err := r.service.Go(nil); !errors.Is(err, wake.ErrStopped) || !r.service.Stopping() {
			t.Errorf("work after Stop: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // what waits for Linger is told at once
		r := newRig(t, nil, newMemory())
		r.asleep(phone("1"))
		r.start("a")
		r.register(phone("1"))
		began := time.Now()
		if err := stop(t, r, time.Minute); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		r.wantSignals("wake sip1 1", "give_up sip1")
	})
}

// A device that is back stays so, though its push ends badly after that.
func TestBackBeforePushFails(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		r.pusher.hold, r.pusher.outcome = true, outcome(push.Unavailable)
		r.start("a")
		r.register(phone("1"))
		r.pusher.answer()
		r.wantSignals("wake sip1 1")
		r.sleep(r.config.Linger + time.Second)
		r.wantSignals("wake sip1 1", "give_up sip1")
	})
}

// A node is told once to stop holding, however often phones register.
func TestGiveUpOnce(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.register(phone("1"))
		r.sleep(r.config.Linger + time.Second)
		r.register(phone("1"))
		r.sleep(r.config.Linger + time.Second)
		r.wantSignals("wake sip1 1", "give_up sip1", "wake sip1 1")
	})
}

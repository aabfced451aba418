package chaos

import (
	"slices"
	"testing"
	"time"
)

// The rules, each with what excuses it and what does not.
func TestVerdict(t *testing.T) {
	began := time.Now()
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	one, other := &node{server: &server{name: "node0"}}, &node{server: &server{name: "node1"}}
	type away map[string][2]float64
	f := func(what string, want verdict, away away, change func(*call)) {
		t.Helper()
		w := &world{times: newTimes()}
		for i := range instances {
			w.sipwakes = append(w.sipwakes, &instance{server: &server{name: "sipwake" + string(rune('0'+i))}})
		}
		for part, s := range away {
			w.times.add(part, at(s[0]), at(s[1]))
		}
		// Acknowledged, never pushed, and the caller waited for the whole hold.
		c := &call{sleeper: &sleeper{provider: apns}, through: one, back: one, began: began, code: 480,
			final: at(15), known: true, asked: asked{at: at(0.1), ackedAt: at(0.2), outcome: "pushing", hold: hold}}
		change(c)
		if kind, why := (&verdicts{w: w}).verdict(c); kind != want {
			t.Errorf("%s: %s %q, want %s", what, kind, why, want)
		}
	}
	all := func(s [2]float64) away { return away{"sipwake0": s, "sipwake1": s, "sipwake2": s} }
	unchanged := func(*call) {}

	f("never pushed", isLost, nil, unchanged)
	f("never pushed, and one sipwake was away", isLost, away{"sipwake1": {0, 15}}, unchanged)
	f("never pushed, but all sipwakes were away", isExcused, all([2]float64{0, 9}), unchanged)
	f("never pushed, all sipwakes were away for a moment", isLost, all([2]float64{0.3, 2}), unchanged)
	f("never pushed, Redis was away for most of it", isExcused, away{partRedis: {0, 8}}, unchanged)
	f("never pushed, Redis was away for a moment", isLost, away{partRedis: {0, 3}}, unchanged)
	f("never pushed, its provider was away", isExcused, away{apns: {0, 8}}, unchanged)
	f("never pushed, the other provider was away", isLost, away{fcm: {0, 15}}, unchanged)
	f("never pushed, the node was killed", isExcused, nil, func(c *call) { c.nodeDied = true })
	f("answered", isAnswered, nil, func(c *call) { c.code = 200 })
	f("cancelled", isCancelled, nil, func(c *call) { c.cancelled, c.code = at(1), 487 })
	f("no answer at all", isStuck, nil, func(c *call) { c.final, c.code = time.Time{}, 0 })
	f("no answer though Redis was away", isStuck, away{partRedis: {0, 15}}, func(c *call) { c.final, c.code = time.Time{}, 0 })
	f("rang and failed", hasFailed, nil, func(c *call) { c.invites = []time.Time{at(1)} })
	f("back, and no INVITE", isLost, away{partRedis: {0, 15}}, func(c *call) { c.returned = []time.Time{at(3)} })
	elsewhere := func(c *call) { c.back, c.returned = other, []time.Time{at(3)} }
	f("back at the other node, and no INVITE", isLost, away{"sipwake0": {0, 15}}, elsewhere)
	f("back at the other node, but Redis was away", isExcused, away{partRedis: {0, 15}}, elsewhere)
	f("back at the other node, but no sipwake was there", isExcused, all([2]float64{0, 9}), elsewhere)
	f("back when it was over", isExcused, away{partRedis: {0, 15}}, func(c *call) { c.returned = []time.Time{at(14.9)} })
	f("given up without a reason", isLost, nil, func(c *call) { c.final = at(1) })
	f("given up because of the provider", isExcused, away{apns: {0, 5}}, func(c *call) { c.final = at(1) })
	f("ended though the push had arrived", isLost, nil, func(c *call) {
		c.final, c.pushes, c.returned = at(1), []pushed{{at: at(0.5)}}, []time.Time{at(1.2)}
	})
	nobody := func(c *call) { c.final, c.asked.outcome, c.asked.hold = at(0.3), "none", 0 }
	f("nobody to wake", isLost, nil, nobody)
	f("nobody because the breaker is open", isExcused, away{apns: {0, 5}}, nobody)
	refused := func(c *call) { c.final, c.asked.instance, c.asked.hold = at(0.5), -1, 0 }
	f("not taken", isLost, nil, refused)
	f("not taken, two sipwakes were away", isLost, away{"sipwake0": {-9, 9}, "sipwake2": {-9, 9}}, refused)
	f("not taken, Redis was away", isExcused, away{partRedis: {-1, 5}}, refused)
	f("the node did not ask", isLost, nil, func(c *call) { c.known, c.final = false, at(0.5) })
}

func TestCalm(t *testing.T) {
	began := time.Now()
	bad := newTimes()
	bad.add("x", began.Add(2*time.Second), began.Add(3*time.Second))
	good := func(from, to time.Time) bool { return !bad.bad("x", from, to) }
	if d := calm(began, began.Add(10*time.Second), good); d < 6900*time.Millisecond || d > 7*time.Second {
		t.Errorf("%s", d)
	}
	if d := bad.away("x", began, began.Add(2500*time.Millisecond)); d != 500*time.Millisecond {
		t.Errorf("away for %s", d)
	}
}

// What excuses a push that was sent twice, and what does not.
func TestTwice(t *testing.T) {
	began := time.Now()
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	f := func(what string, excused bool, wake string, away map[string][2]float64) {
		t.Helper()
		w := &world{times: newTimes()}
		for i := range instances {
			w.sipwakes = append(w.sipwakes, &instance{server: &server{name: "sipwake" + string(rune('0'+i))}})
		}
		for part, s := range away {
			w.times.add(part, at(s[0]), at(s[1]))
		}
		a := asked{at: at(0), tries: []int{1}, instance: 1}
		why := (&verdicts{w: w}).twice(a, pushed{at(1), apns, "one"}, pushed{at(6), apns, wake})
		if (why != "") != excused {
			t.Errorf("%s: excused by %q", what, why)
		}
	}
	type away = map[string][2]float64
	f("nothing was away", false, "one", nil)
	f("its sipwake died as the push was taken", true, "one", away{"sipwake1": {1.1, 4}})
	f("its sipwake died later", false, "one", away{"sipwake1": {3, 5}})
	f("its sipwake died later, Redis had been away", true, "one", away{"sipwake1": {3, 5}, partRedis: {0.5, 2}})
	f("another sipwake died", false, "one", away{"sipwake0": {1.1, 4}})
	f("Redis was away, its sipwake lived", false, "one", away{partRedis: {0.5, 5}})
	f("its provider was away, the answer may be lost", true, "one", away{apns: {0.5, 5}})
	f("the other provider was away", false, "one", away{fcm: {0.5, 5}})
	f("another UUID", false, "two", away{"sipwake1": {1.1, 4}})
	f("another UUID, though Redis was away", false, "two", away{partRedis: {-1, 9}})
	f("the run itself did not run", true, "one", away{partHarness: {1, 2}})
	memory := asked{at: at(0), tries: []int{0, 1}, instance: 1, cached: true}
	v := &verdicts{w: &world{times: newTimes()}}
	for range instances {
		v.w.sipwakes = append(v.w.sipwakes, &instance{server: &server{name: "up"}})
	}
	if v.twice(memory, pushed{at(1), apns, "one"}, pushed{at(2), apns, "one"}) == "" {
		t.Error("two were asked and one started from memory: a finding")
	}
	late := asked{at: at(0), tries: []int{0, 1}, instance: 1}
	if v.twice(late, pushed{at(1), apns, "one"}, pushed{at(2), apns, "one"}) != "" {
		t.Error("two were asked and Redis worked: excused")
	}
	v.w.times.add(partRedis, at(-5), at(0.5))
	if v.twice(late, pushed{at(1), apns, "one"}, pushed{at(2), apns, "one"}) == "" {
		t.Error("two were asked while Redis came back: a finding")
	}
	if v.twice(memory, pushed{at(1), apns, "one"}, pushed{at(2), apns, "two"}) != "" {
		t.Error("two were asked and one started from memory, another UUID: excused")
	}
}

// A node that asks again changes who may have pushed, and nothing else.
func TestAskedAgain(t *testing.T) {
	l := newLedger()
	l.start("call", asked{tries: []int{0, 1}, instance: -1})
	l.start("call", asked{tries: []int{1}, instance: 1, hold: hold, cached: true})
	l.start("call", asked{tries: []int{2}, instance: 2})
	a, _, _ := l.of("call")
	if slices.Sort(a.tries); a.instance != 1 || a.hold != hold || !a.cached || !slices.Equal(a.tries, []int{0, 1, 2}) {
		t.Errorf("%+v", a)
	}
}

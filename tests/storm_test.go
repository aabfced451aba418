package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// storm makes n calls and counts the answers. The calls do not end.
func (r *rig) storm(n int, aor, from func(int) string) map[string]int {
	r.t.Helper()
	got := map[string]int{}
	for i := range n {
		over := obj{}
		if from != nil {
			over["from"] = from(i)
		}
		res := r.startWake(aor(i), fmt.Sprintf("%d-%d", time.Now().UnixNano(), i), over)
		if res.Outcome == "shed" && res.HoldS != 0 {
			r.t.Errorf("a shed call says %+v", res)
		}
		got[res.Outcome]++
	}
	return got
}

func (r *rig) limited(limit string, want int) {
	r.t.Helper()
	if _, text := r.get("/metrics"); !strings.Contains(text, fmt.Sprintf("sipwake_wakes_limited_total{limit=%q} %d\n", limit, want)) {
		r.t.Errorf("the metric does not count %d for %s", want, limit)
	}
}

// dialled makes calls that end at once, until so many devices sleep and are pushed.
func (r *rig) dialled(aor string, devices int, from func(int) string) {
	r.t.Helper()
	n := 0
	eventually(r.t, "pushing", func() bool {
		n++
		call := fmt.Sprint(time.Now().UnixNano())
		res := r.startWake(aor, call, obj{"from": from(n)})
		r.endWake(aor, call, "cancelled")
		return res.Outcome == "pushing" && res.Devices == devices
	})
}

// patient is a sipwake that a slow machine does not hurry.
const patient = "  deadline: 10s"

func always(s string) func(int) string { return func(int) string { return s } }
func each(format string) func(int) string {
	return func(i int) string { return fmt.Sprintf(format, i) }
}

// The default limits: a caller who dials one user 100 times, one who dials a
// thousand users, and a thousand callers of one user.
func TestPushStorm(t *testing.T) {
	between := func(t *testing.T, got map[string]int, n, low int, began time.Time) (shed int) {
		t.Helper()
		high := low + int(float64(low)*time.Since(began).Minutes()) + 1
		if got["pushing"] < low || got["pushing"] > high || got["pushing"]+got["shed"] != n {
			t.Errorf("%v, want %d to %d pushing, the rest shed", got, low, high)
		}
		return got["shed"]
	}
	t.Run("one user by one caller", func(t *testing.T) {
		r := newRig(t, rigOptions{rpc: patient})
		r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
		began := time.Now()
		shed := between(t, r.storm(100, always("bob@example.com"), nil), 100, 20, began)
		r.limited("pair", shed)
		eventually(t, "what was not shed is pushed", func() bool { return r.pushes(apnsToken(1)) >= 100-shed })
		if n := r.pushes(apnsToken(1)); n != 100-shed {
			t.Errorf("%d pushes for %d calls", n, 100-shed)
		}
		if res := r.startWake("bob@example.com", "x", obj{"from": "sip:carol@example.com"}); res.Outcome != "pushing" {
			t.Errorf("another caller: %+v", res)
		}
		if !strings.Contains(r.trace("bob@example.com"), "{limited  pair 20}") {
			t.Error("the trace does not say why")
		}
	})
	t.Run("many users by one caller", func(t *testing.T) {
		r := newRig(t, rigOptions{rpc: patient})
		for i := range 300 {
			r.register(fmt.Sprintf("user%d@example.com", i), apnsContact("u", apnsToken(1000+i)), obj{"call_id": fmt.Sprint("r", i)})
		}
		r.dialled("user299@example.com", 1, each("sip:caller%d@example.com"))
		began := time.Now()
		r.limited("caller", between(t, r.storm(300, each("user%d@example.com"), nil), 300, 120, began))
		if res := r.startWake("user299@example.com", "x", obj{"from": "sip:carol@example.com"}); res.Outcome != "pushing" {
			t.Errorf("another caller: %+v", res)
		}
	})
	t.Run("one user by many callers", func(t *testing.T) {
		r := newRig(t, rigOptions{rpc: patient})
		r.asleep("bob@example.com", apnsContact("bob", apnsToken(1)))
		began := time.Now()
		r.limited("aor", between(t, r.storm(200, always("bob@example.com"), each("sip:caller%d@example.com")), 200, 60, began))
	})
	t.Run("anonymous callers are not one", func(t *testing.T) {
		r := newRig(t, rigOptions{rpc: patient, wake: "  limits: {caller: 1}"})
		for i := range 5 {
			r.asleep(fmt.Sprintf("user%d@example.com", i), apnsContact("u", apnsToken(i)))
		}
		if got := r.storm(5, each("user%d@example.com"), always("sip:anonymous@anonymous.invalid")); got["pushing"] != 5 {
			t.Error(got)
		}
	})
}

// A limit counts pushes: a call to a phone that is awake costs nothing, and neither
// does one that has nobody to push. A reload changes the limits.
func TestPushStormOnlyPushes(t *testing.T) {
	r := newRig(t, rigOptions{rpc: patient, wake: "  limits: {pair: 1, caller: 0, aor: 0}", recent: 2 * time.Second})
	r.register("bob@example.com", apnsContact("bob", apnsToken(1)), nil)
	for i := range 10 {
		call := fmt.Sprint("awake-", i)
		if res := r.startWake("bob@example.com", call, nil); res.Outcome != "awake" {
			t.Errorf("a call to a phone that is awake: %+v", res)
		}
		r.endWake("bob@example.com", call, "cancelled")
	}
	if got := r.storm(10, always("nobody@example.com"), nil); got["none"] != 10 {
		t.Errorf("calls for nobody: %v", got)
	}
	r.register("bob@example.com", fcmContact("bob", "fcm-token-of-the-second-phone"), obj{"call_id": "second"})
	r.dialled("bob@example.com", 2, each("sip:caller%d@example.com"))
	if got := r.storm(3, always("bob@example.com"), nil); got["pushing"] != 1 || got["shed"] != 2 {
		t.Errorf("calls to a sleeping phone: %v", got)
	}
	r.edit("pair: 1", "pair: 0")
	r.reload()
	r.dialled("bob@example.com", 2, always("sip:dave@example.com"))
	if got := r.storm(30, always("bob@example.com"), nil); got["pushing"] != 30 {
		t.Errorf("without limits: %v", got)
	}
}

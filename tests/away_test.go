package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/storetest"
)

// storeAway is the error code for a store that cannot be reached.
const storeAway = -32003

// redisRig returns a sipwake on a Redis that keeps its data across a restart.
func redisRig(t *testing.T) (*rig, *storetest.Redis) {
	t.Helper()
	server := storetest.NewRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	return newRig(t, rigOptions{store: fmt.Sprintf("  type: redis\n  redis:\n    addresses: [%q]", server.Addr)}), server
}

// outages returns the ways in which Redis goes away and comes back.
func outages() map[string]struct{ away, back func(*storetest.Redis) } {
	return map[string]struct{ away, back func(*storetest.Redis) }{
		"killed": {(*storetest.Redis).Stop, (*storetest.Redis).Start},
		"silent": {(*storetest.Redis).Pause, (*storetest.Redis).Resume},
	}
}

func (r *rig) ready(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("/readyz says %d", want), func() bool {
		status, _ := r.get("/readyz")
		return status == want
	})
}

// tryRegister is register for a time in which it fails. The error must come
// inside the deadline and some grace for a busy machine.
func (r *rig) tryRegister(aor, contact string, cseq int) {
	r.t.Helper()
	began := time.Now()
	e := r.try("binding.register", obj{"node": nodeID, "aor": aor, "contact": contact, "call_id": "reg-" + aor, "cseq": cseq,
		"expires": 600, "source": "udp:127.0.0.1:5070"}, nil)
	if e == nil || e.Code != storeAway {
		r.t.Fatalf("binding.register: %+v, want %d", e, storeAway)
	}
	if took := time.Since(began); took > 5*time.Second {
		r.t.Errorf("binding.register took %s", took)
	}
}

// What phones and callers see while Redis is away: calls wake the phones that
// this sipwake knows, registrations are bound afterwards, nothing is half-stored.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	for name, o := range outages() {
		t.Run(name, func(t *testing.T) {
			r, server := redisRig(t)
			r.register("bob@example.com", apnsContact("bob", apnsToken(1)), nil)
			r.register("carol@example.com", fcmContact("carol", "carol-token"), nil)
			r.ready(t, http.StatusOK)
			time.Sleep(60 * time.Millisecond) // wake.recent: they sleep now
			o.away(server)
			r.ready(t, http.StatusServiceUnavailable)

			// A call for a phone that is known wakes it, its REGISTER is signalled.
			var res struct {
				Outcome string
				Cached  bool
				Devices int
			}
			r.call("wake.start", obj{"node": nodeID, "aor": "bob@example.com", "call_id": "call-1", "call": "1", "kind": "call", "hold_s": 30}, &res)
			if res.Outcome != "pushing" || !res.Cached || res.Devices != 1 {
				t.Errorf("wake.start: %+v", res)
			}
			eventually(t, "the phone is pushed", func() bool { return r.pushes(apnsToken(1)) == 1 })
			r.tryRegister("bob@example.com", apnsContact("bob", apnsToken(1)), 2)
			if s := r.node.waitFor(t, "wake", "1"); s.Params.CSeq != 2 {
				t.Errorf("the node was told of %+v", s.Params)
			}
			var trace struct {
				Wakes []struct{ Events []struct{ Event string } }
			}
			r.call("wake.trace", obj{"aor": "bob@example.com"}, &trace)
			if text := fmt.Sprint(trace); !strings.Contains(text, "cached") {
				t.Errorf("the trace does not say that the store was away: %s", text)
			}
			if !r.endWake("bob@example.com", "1", "answered") {
				t.Error("wake.end does not know the wake")
			}

			// A new phone, one that goes, and one that nobody knows.
			r.tryRegister("dave@example.com", apnsContact("dave", apnsToken(4)), 1)
			e := r.try("binding.register", obj{"node": nodeID, "aor": "carol@example.com", "contact": fcmContact("carol", "carol-token") + ";expires=0",
				"call_id": "reg-carol@example.com", "cseq": 2, "expires": 0}, nil)
			if e == nil || e.Code != storeAway {
				t.Errorf("un-REGISTER: %+v", e)
			}
			if e := r.try("wake.start", obj{"node": nodeID, "aor": "nobody@example.com", "call_id": "x", "call": "x", "kind": "call"}, nil); e == nil || e.Code != storeAway {
				t.Errorf("a call for a user who is not known: %+v", e)
			}

			o.back(server)
			r.ready(t, http.StatusOK)
			eventually(t, "all is stored", func() bool {
				_, text := r.get("/metrics")
				return strings.Contains(text, "\nsipwake_store_spool 0\n") && strings.Contains(text, "\nsipwake_store_away 0\n")
			})
			for user, want := range map[string]int{"bob": 1, "carol": 1, "dave": 1, "nobody": 0} {
				if n := r.bindings(user + "@example.com"); n != want {
					t.Errorf("%s has %d bindings, want %d", user, n, want)
				}
			}
			if res := r.startWake("dave@example.com", "2", nil); res.Outcome != "pushing" || res.Devices != 1 {
				t.Errorf("a call afterwards: %+v", res)
			}
			eventually(t, "the phone that registered meanwhile is pushed", func() bool { return r.pushes(apnsToken(4)) == 1 })
			if n := r.pushes(apnsToken(1)); n != 1 {
				t.Errorf("the first phone was pushed %d times", n)
			}
		})
	}
}

// A restart of sipwake in the middle of an outage loses no REGISTER.
func TestRedisAwayRestart(t *testing.T) {
	t.Parallel()
	const instance = `;+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"`
	r, server := redisRig(t)
	r.register("bob@example.com", apnsContact("bob", apnsToken(1))+instance, nil)
	server.Stop()
	r.tryRegister("bob@example.com", apnsContact("bob", apnsToken(2))+instance, 2)
	r.tryRegister("dave@example.com", apnsContact("dave", apnsToken(4)), 1)
	stop(t, r.app)
	r.start()
	r.tryRegister("erin@example.com", apnsContact("erin", apnsToken(5)), 1)
	server.Start()
	eventually(t, "all is stored", func() bool {
		return r.try("binding.list", obj{"aor": "dave@example.com"}, nil) == nil &&
			r.bindings("dave@example.com") == 1 && r.bindings("erin@example.com") == 1
	})
	r.startWake("bob@example.com", "1", nil)
	eventually(t, "the new token is pushed", func() bool { return r.pushes(apnsToken(2)) == 1 })
	if r.pushes(apnsToken(1)) != 0 {
		t.Error("the old token is pushed")
	}
}

package tests

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/store/storetest"
)

// TestEveryWakeArrives: an INVITE is held at one node in the instant in which the phone
// registers at another one. The nodes have two sipwakes over one Redis, so that all
// that connects the two requests is what the store promises. Whichever comes first,
// and however they overlap, the node that holds the call must be told of this very
// registration. SIPWAKE_RACES changes the number of rounds.
func TestEveryWakeArrives(t *testing.T) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("SIPWAKE_RACES"), "10000"))
	if err != nil {
		t.Fatal(err)
	}
	r := newWakeRace(t, rounds)
	began := time.Now()
	r.runAll(rounds)
	t.Logf("%d rounds in %s: the call was first %d times, the phone %d times; %d calls were told twice",
		rounds, time.Since(began).Round(time.Millisecond), r.outcomes["pushing"], r.outcomes["awake"], r.repeated)
	if woken := rounds - len(r.lost); woken != rounds {
		t.Errorf("%d of %d woken; lost: %v", woken, rounds, r.lost[:min(5, len(r.lost))])
	}
	// A race that always goes the same way proves nothing.
	if least := rounds / 20; r.outcomes["pushing"] < least || r.outcomes["awake"] < least {
		t.Errorf("the interleavings are too much alike: %v", r.outcomes)
	}
}

// wakeRace is two sipwakes, and two nodes that note which calls they were told of.
type wakeRace struct {
	t     *testing.T
	rigs  [2]*rig
	nodes [2]*httptest.Server

	mu       sync.Mutex
	calls    map[string]*racingCall
	outcomes map[string]int
	repeated int
	lost     []string
}

// racingCall is a call that waits for one registration.
type racingCall struct {
	node    string // that holds it
	reg     string // Call-ID of the registration that must wake it
	late    bool   // the registration has not come to the node when it is first told
	told    int
	arrived chan struct{}
}

func newWakeRace(t *testing.T, rounds int) *wakeRace {
	t.Helper()
	r := &wakeRace{t: t, calls: make(map[string]*racingCall), outcomes: make(map[string]int)}
	nodes := make([]string, len(r.nodes))
	for i, id := range clusterNodes {
		r.nodes[i] = httptest.NewServer(r.node(id))
		t.Cleanup(r.nodes[i].Close)
		nodes[i] = r.nodes[i].URL
	}
	r.rigs[0] = newRig(t, rigOptions{recent: 10 * time.Second, rpc: "  deadline: 30s",
		store: fmt.Sprintf("  type: redis\n  redis:\n    addresses: [%q]\n    timeout: 30s", storetest.StartRedis(t))})
	r.rigs[0].setNodes(nodes, "    timeout: 30s\n")
	r.rigs[1] = r.rigs[0].another()
	r.rigs[0].reload()
	r.bind(rounds)
	return r
}

// bind makes every user's phone known, and asleep.
func (r *wakeRace) bind(rounds int) {
	r.t.Helper()
	const users = 100 // a batch
	for first := 0; first < rounds; first += users {
		var batch []obj
		for i := first; i < min(first+users, rounds); i++ {
			for cseq, expires := range []int{600, 0} {
				p := r.registration(i)
				p["call_id"], p["cseq"], p["expires"] = fmt.Sprintf("old-%d", i), cseq+1, expires
				batch = append(batch, obj{"jsonrpc": "2.0", "id": len(batch), "method": "binding.register", "params": p})
			}
			// The two requests of one phone must not overtake each other.
		}
		for part := range 2 {
			var half []obj
			for i := part; i < len(batch); i += 2 {
				half = append(half, batch[i])
			}
			body, err := json.Marshal(half)
			if err != nil {
				r.t.Fatal(err)
			}
			if status, answer := r.rigs[0].post(string(body)); status != http.StatusOK || strings.Contains(string(answer), `"error"`) {
				r.t.Fatalf("HTTP %d: %.300s", status, answer)
			}
		}
	}
}

func (r *wakeRace) aor(i int) string { return fmt.Sprintf("user%d@example.com", i) }

func (r *wakeRace) registration(i int) obj {
	return obj{"node": clusterNodes[1], "aor": r.aor(i), "contact": apnsContact(fmt.Sprintf("user%d", i), apnsToken(i+1)),
		"call_id": fmt.Sprintf("reg-%d", i), "cseq": 1, "expires": 600, "source": "udp:127.0.0.1:5070"}
}

func (r *wakeRace) runAll(rounds int) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := range next {
				r.round(i)
			}
		})
	}
	for i := range rounds {
		next <- i
		r.mu.Lock()
		enough := len(r.lost) > 20
		r.mu.Unlock()
		if enough {
			r.t.Errorf("given up after %d rounds", i)
			break
		}
	}
	close(next)
	workers.Wait()
}

// round has one call and one registration meet: at any two nodes, through any two
// sipwakes, either one up to a millisecond before the other.
func (r *wakeRace) round(i int) {
	call, holds := fmt.Sprintf("call-%d", i), rand.N(2)
	c := &racingCall{node: clusterNodes[holds], reg: fmt.Sprintf("reg-%d", i), late: rand.N(8) == 0, arrived: make(chan struct{})}
	r.mu.Lock()
	r.calls[call] = c
	r.mu.Unlock()
	reg := r.registration(i)
	reg["node"] = clusterNodes[1-holds]
	start := obj{"node": c.node, "aor": r.aor(i), "call_id": "sip-" + call, "call": call, "kind": "call",
		"from": "sip:alice@example.com", "hold_s": 60}
	head := time.Duration(rand.N(2001)-1000) * time.Microsecond
	var both sync.WaitGroup
	both.Go(func() {
		time.Sleep(max(0, head))
		r.rpc(rand.N(2), "binding.register", reg)
	})
	both.Go(func() {
		time.Sleep(max(0, -head))
		outcome, _ := r.rpc(rand.N(2), "wake.start", start)["outcome"].(string)
		r.mu.Lock()
		r.outcomes[outcome]++
		r.mu.Unlock()
	})
	both.Wait()
	select {
	case <-c.arrived:
	case <-time.After(20 * time.Second):
		r.mu.Lock()
		r.lost = append(r.lost, call)
		r.mu.Unlock()
	}
	r.rpc(rand.N(2), "wake.end", obj{"node": c.node, "aor": r.aor(i), "call_id": "sip-" + call, "call": call, "reason": "answered"})
}

func (r *wakeRace) rpc(sipwake int, method string, params obj) (result obj) {
	if e := r.rigs[sipwake].try(method, params, &result); e != nil {
		r.t.Errorf("%s: %d %s", method, e.Code, e.Message)
	}
	return result
}

// node answers signals as a node does that learns of some registrations late. Only a
// signal that names the right registration counts.
func (r *wakeRace) node(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var s signal
		if req.Header.Get("Authorization") != "Bearer "+secretOf(id) || json.NewDecoder(req.Body).Decode(&s) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		status := "gone"
		r.mu.Lock()
		switch c := r.calls[s.Params.Call]; {
		case c == nil || c.node != id:
		case s.Method == "give_up":
			status = "ok"
		case c.late || s.Params.CallID != c.reg:
			c.late, status = false, "nocontact"
		default:
			status = "added"
			if c.told++; c.told == 1 {
				close(c.arrived)
			} else {
				r.repeated++
				status = "dup"
			}
		}
		r.mu.Unlock()
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":{"status":%q}}`, status)
	}
}

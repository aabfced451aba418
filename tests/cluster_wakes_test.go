package tests

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/storetest"
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
	if r.woken != rounds {
		t.Errorf("%d of %d woken; lost: %v", r.woken, rounds, r.lost[:min(5, len(r.lost))])
	}
	// A race that always goes the same way proves nothing.
	if least := rounds / 20; r.outcomes["pushing"] < least || r.outcomes["awake"] < least {
		t.Errorf("the interleavings are too much alike: %v", r.outcomes)
	}
}

const racing = 32 // calls at once

// wakeRace is two sipwakes, and two nodes that note which calls they were told of.
type wakeRace struct {
	t     *testing.T
	rigs  [2]*rig
	nodes [2]*httptest.Server
	// client asks the sipwakes, as the nodes do.
	client *http.Client

	mu       sync.Mutex
	calls    map[string]*racingCall
	outcomes map[string]int
	woken    int
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
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * racing}
	t.Cleanup(transport.CloseIdleConnections)
	r := &wakeRace{t: t, client: &http.Client{Transport: transport}, calls: make(map[string]*racingCall), outcomes: make(map[string]int)}
	nodes := make([]string, len(r.nodes))
	for i, id := range clusterNodes {
		r.nodes[i] = httptest.NewServer(r.node(id))
		t.Cleanup(r.nodes[i].Close)
		nodes[i] = r.nodes[i].URL
	}
	r.rigs[0] = newRig(t, rigOptions{recent: 10 * time.Second, rpc: "  deadline: 30s", wake: noLimits,
		store: fmt.Sprintf("  type: redis\n  redis:\n    addresses: [%q]\n    timeout: 30s", storetest.StartRedis(t))})
	first := r.rigs[0]
	first.setNodes(nodes, "    timeout: 30s\n")
	// What is logged of each request would be much of the work.
	stop(t, first.app)
	first.logs = nil
	first.start()
	second := *first
	second.start()
	r.rigs[1] = &second
	r.bind(rounds)
	return r
}

// bind makes every user's phone known, and asleep.
func (r *wakeRace) bind(rounds int) {
	r.t.Helper()
	const users = 100 // a batch
	var all sync.WaitGroup
	for first := 0; first < rounds; first += users {
		if first%(8*users) == 0 {
			all.Wait()
		}
		all.Go(func() {
			for cseq, expires := range []int{600, 0} {
				var batch []obj
				for i := first; i < min(first+users, rounds); i++ {
					p := r.registration(i)
					p["call_id"], p["cseq"], p["expires"] = fmt.Sprintf("old-%d", i), cseq+1, expires
					batch = append(batch, obj{"jsonrpc": "2.0", "id": i, "method": "binding.register", "params": p})
				}
				for _, answer := range r.post(0, batch) {
					if answer.Error != nil {
						r.t.Errorf("binding.register: %+v", answer.Error)
					}
				}
			}
		})
	}
	all.Wait()
}

func (r *wakeRace) aor(i int) string { return fmt.Sprintf("user%d@example.com", i) }

func (r *wakeRace) registration(i int) obj {
	return obj{"node": clusterNodes[1], "aor": r.aor(i), "contact": apnsContact(fmt.Sprintf("user%d", i), apnsToken(i+1)),
		"call_id": fmt.Sprintf("reg-%d", i), "cseq": 1, "expires": 600, "source": "udp:127.0.0.1:5070"}
}

func (r *wakeRace) runAll(rounds int) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range racing {
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

func (r *wakeRace) rpc(sipwake int, method string, params obj) obj {
	answers := r.post(sipwake, []obj{{"jsonrpc": "2.0", "id": 1, "method": method, "params": params}})
	if len(answers) != 1 || answers[0].Error != nil {
		r.t.Errorf("%s: %+v", method, answers)
		return nil
	}
	return answers[0].Result
}

type raceAnswer struct {
	Result obj
	Error  *rpcError
}

// post sends a batch to one of the sipwakes. The connections are kept: to open one
// each time would be much of the work.
func (r *wakeRace) post(sipwake int, batch []obj) (answers []raceAnswer) {
	body, err := json.Marshal(batch)
	if err != nil {
		r.t.Error(err)
		return nil
	}
	res, err := r.client.Post(r.rigs[sipwake].url, "application/json", bytes.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return nil
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answers); err != nil {
		r.t.Error(err)
	}
	return answers
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
		case s.Method == "give_up", s.Method == "alert":
			status = "ok"
		case s.Method == "over":
			status = "told"
		case c.late || s.Params.CallID != c.reg:
			c.late, status = false, "nocontact"
		default:
			status = "added"
			if c.told++; c.told == 1 {
				r.woken++
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

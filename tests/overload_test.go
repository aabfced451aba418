package tests

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

// A flood of REGISTERs, from many more connections than are worked on at once: part
// of it is refused at once, every call goes through, and it recovers alone.
func TestOverloadFlood(t *testing.T) {
	r := newRig(t, rigOptions{rpc: "  in_flight: 4\n  deadline: 10s", wake: noLimits})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	var taken, refused, strange atomic.Int64
	stopFlood := r.flood(64, &taken, &refused, &strange)
	calls := 0
	eventually(t, "the flood is refused in part, and calls go on", func() bool {
		calls++
		call := fmt.Sprint(calls, "-1")
		if res := r.startWake("bob@example.com", call, nil); res.Outcome != "pushing" {
			t.Fatalf("call %d in the flood: %+v", calls, res)
		}
		if !r.endWake("bob@example.com", call, "answered") {
			t.Fatalf("call %d was not known", calls)
		}
		return refused.Load() > 100 && taken.Load() > 100 && calls >= 20
	})
	if load := r.load(); load.Load == 0 {
		t.Errorf("in the flood: %+v", load)
	}
	stopFlood()
	if n := strange.Load(); n > 0 {
		t.Errorf("%d answers were neither taken nor refused as overloaded", n)
	}
	eventually(t, "the load is low again", func() bool { return r.load().Load == 0 })
	if res := r.startWake("bob@example.com", "after-1", nil); res.Outcome != "pushing" {
		t.Errorf("after the flood: %+v", res)
	}
}

// flood reports REGISTERs of one user after the other on n connections until the
// returned function is called.
func (r *rig) flood(n int, taken, refused, strange *atomic.Int64) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	for i := range n {
		wg.Go(func() {
			for seq := 1; ; seq++ {
				select {
				case <-done:
					return
				default:
				}
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"binding.register","params":{"node":%q,"aor":"flood%d@example.com",`+
					`"contact":%q,"call_id":"flood","cseq":%d,"expires":600,"source":"udp:127.0.0.1:5070"}}`,
					nodeID, i, fcmContact("flood", fmt.Sprint("fcm-flood-", i, "-", seq)), seq)
				switch status, answer := post(client, r.url, body); {
				case status == 200 && strings.Contains(answer, `"status":"stored"`):
					taken.Add(1)
				case status == 503 && strings.Contains(answer, "-32002"):
					refused.Add(1)
				default:
					strange.Add(1)
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(done)
		wg.Wait()
		client.CloseIdleConnections()
	})
	r.t.Cleanup(stop)
	return stop
}

func post(client *http.Client, url, body string) (status int, answer string) {
	res, err := client.Post(url, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(text)
}

type loadResult struct {
	Load    int
	Reasons []struct {
		Name  string
		Share float64
	}
}

func (r *rig) load() (res loadResult) {
	r.t.Helper()
	r.call("service.load", obj{}, &res)
	return res
}

// A push service that does not answer: messages are shed before calls, calls when
// their queue is full, and both say so.
func TestOverloadPushService(t *testing.T) {
	r := newRig(t, rigOptions{wake: noLimits, fcmConfig: "    queue: 8\n    in_flight: 2\n    timeout: 60s\n    call_timeout: 60s"})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.fcm.Behave("fcm-token-bob-1", fcmsim.Behaviour{Fault: fcmsim.Silence})
	outcome := func(n int, kind string) string {
		return r.startWake("bob@example.com", fmt.Sprint(kind, n), obj{"kind": kind, "hold_s": 60}).Outcome
	}
	var seen, calls []string
	for n := 0; ; n++ {
		chat := outcome(n, "chat")
		call := outcome(n, "call")
		seen = append(seen, chat+" "+call)
		calls = append(calls, fmt.Sprint("call", n), fmt.Sprint("chat", n))
		if call == "shed" {
			break
		}
		if n > 20 {
			t.Fatalf("a call is never shed: %v", seen)
		}
	}
	text := strings.Join(seen, ",")
	if !strings.HasPrefix(text, "pushing pushing,") || !strings.Contains(text, "shed pushing,") || !strings.HasSuffix(text, ",shed shed") {
		t.Errorf("chat and call: %s", text)
	}
	if load := r.load(); load.Load != 4 {
		t.Errorf("%+v", load)
	}
	for _, call := range calls {
		r.endWake("bob@example.com", call, "cancelled")
	}
	r.fcm.Close() // or the pushes under way would wait for its answer
}

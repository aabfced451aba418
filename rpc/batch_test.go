package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A batch has the time of one request, and its answers are in its order.
func TestBatchDeadline(t *testing.T) {
	const n = 100
	s := serve(t, Config{Deadline: 400 * time.Millisecond}, map[string]method{
		"store.away": func(ctx context.Context, _ *params) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	one := func(i int, method string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q}`, i, method)
	}
	var batch []string
	for i := range n {
		method := "store.away"
		if i%10 == 0 {
			method = "service.info"
		}
		batch = append(batch, one(i, method))
	}
	batch[3] = `{"jsonrpc":"2.0","method":"service.info"}` // a notification
	batch[5] = `7`
	began := time.Now()
	status, body, _ := ask(t, s.dial(""), post("", "["+strings.Join(batch, ",")+"]"))
	if took := time.Since(began); took > 5*time.Second { // in series it is 36
		t.Errorf("it took %s", took)
	}
	var answers []struct {
		ID    *int
		Error *struct{ Code int }
	}
	if err := json.Unmarshal([]byte(body), &answers); err != nil || status != 200 || len(answers) != n-1 {
		t.Fatalf("%d, %v, %d answers: %.300s", status, err, len(answers), body)
	}
	codes := map[int]int{}
	for i, a := range answers {
		id := i
		if i >= 3 {
			id++ // the notification has none
		}
		switch {
		case id == 5:
			if a.ID != nil || a.Error == nil || a.Error.Code != codeInvalid {
				t.Errorf("what is no request: %+v", a)
			}
		case a.ID == nil || *a.ID != id:
			t.Fatalf("answer %d is of another request: %+v", i, a)
		case a.Error != nil:
			codes[a.Error.Code]++
		}
	}
	if codes[codeNoStore] == 0 || codes[codeOverloaded] == 0 || len(codes) != 2 {
		t.Errorf("%v, want -32003 of those that were begun, and -32002 of the others", codes)
	}
}

// The requests of a batch run side by side, but not all at once.
func TestBatchIsBounded(t *testing.T) {
	var now, most atomic.Int64
	gate := make(chan struct{})
	s := serve(t, Config{}, map[string]method{"service.wait": func(context.Context, *params) (any, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-gate
		return nil, nil
	}})
	batch := "[" + strings.TrimSuffix(strings.Repeat(`{"jsonrpc":"2.0","id":1,"method":"service.wait"},`, 100), ",") + "]"
	answered := make(chan string, 1)
	conn := s.dial("")
	go func() {
		_, body, _ := ask(t, conn, post("", batch))
		answered <- body
	}()
	for deadline := time.Now().Add(10 * time.Second); now.Load() < batchWorkers && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	<-answered
	if got := most.Load(); got != batchWorkers {
		t.Errorf("%d at once, want %d", got, batchWorkers)
	}
}

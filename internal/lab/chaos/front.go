package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// oneTry is how long to wait for one sipwake before asking another. sipwake's own
	// deadline is 400 ms.
	oneTry = 700 * time.Millisecond
	// avoid is how long a sipwake that failed is asked only after the others.
	avoid = time.Second
)

// rpcToken is the token that the sipwakes require.
const rpcToken = "the-token-of-chaos"

// caller calls sipwakes like a load balancer: if one fails it calls another. Safe for
// concurrent use.
type caller struct {
	client *http.Client
	urls   []string
	avoid  []atomic.Int64 // until then, unix nanoseconds
}

func newCaller(urls []string) *caller {
	return &caller{urls: urls, avoid: make([]atomic.Int64, len(urls)),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 20 * time.Second}}}
}

func (c *caller) close() { c.client.CloseIdleConnections() }

// order returns first, then the others, those that failed a moment ago last.
func (c *caller) order(first int) []int {
	var good, bad []int
	now := time.Now().UnixNano()
	for i := range c.urls {
		i = (first + i) % len(c.urls)
		if c.avoid[i].Load() > now {
			bad = append(bad, i)
		} else {
			good = append(good, i)
		}
	}
	return append(good, bad...)
}

// post sends the request to one after the other until one answers HTTP 200, and
// returns that answer and who gave it. tried is called before each try.
func (c *caller) post(ctx context.Context, first int, body []byte, tried func(instance int)) (answer []byte, instance int, err error) {
	var problems []error
	for _, i := range c.order(first) {
		tried(i)
		answer, err := c.once(ctx, c.urls[i], body)
		if err == nil {
			return answer, i, nil
		}
		c.avoid[i].Store(time.Now().Add(avoid).UnixNano())
		problems = append(problems, fmt.Errorf("sipwake%d: %w", i, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, -1, errors.Join(problems...)
}

func (c *caller) once(ctx context.Context, url string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+rpcToken)
	res, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d: %.200s", res.StatusCode, answer)
	}
	return answer, nil
}

// call calls a method of one sipwake.
func (c *caller) call(ctx context.Context, instance int, method string, params, result any) error {
	body, err := request(method, params)
	if err != nil {
		return err
	}
	answer, err := c.once(ctx, c.urls[instance], body)
	if err != nil {
		return err
	}
	return readResult(answer, result)
}

func request(method string, params any) ([]byte, error) {
	return json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

func readResult(answer []byte, result any) error {
	a := struct {
		Result any
		Error  *struct {
			Code    int
			Message string
		}
	}{Result: result}
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("cannot read answer: %w", err)
	}
	if a.Error != nil {
		return fmt.Errorf("error %d: %s", a.Error.Code, a.Error.Message)
	}
	return nil
}

// asked is the outcome of a node's wake.start, as the front saw it.
type asked struct {
	at       time.Time
	tries    []int // instances
	ackedAt  time.Time
	instance int // the one that answered; -1 for none
	outcome  string
	hold     time.Duration
	cached   bool // it was started from the sipwake's memory
	err      error
}

// front is the load balancer between one node and the sipwakes.
type front struct {
	calls   *caller
	first   int // the sipwake that is asked first, mostly
	turn    atomic.Uint32
	listen  net.Listener
	server  *http.Server
	served  chan struct{}
	ledger  *ledger
	refused atomic.Int64 // requests that no sipwake answered
}

func startFront(calls *caller, first int, l *ledger) (*front, error) {
	port, err := quietPort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	listen, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, fmt.Errorf("cannot listen as a load balancer: %w", err)
	}
	f := &front{calls: calls, first: first, listen: listen, ledger: l, served: make(chan struct{})}
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(f.served)
		_ = f.server.Serve(listen) // it ends by close
	}()
	return f, nil
}

func (f *front) url() string { return "http://" + f.listen.Addr().String() + "/rpc" }

func (f *front) close() {
	_ = f.server.Close() // an error of the listener does not matter
	<-f.served
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return // the node has gone
	}
	var q struct {
		Method string
		Params struct {
			CallID string `json:"call_id"`
		}
	}
	_ = json.Unmarshal(body, &q) // sipwake says what is wrong with it
	a := asked{at: time.Now(), instance: -1}
	// The node's timeout does not matter here: a request counts even if the node does not wait for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 3*oneTry+oneTry/2)
	defer cancel()
	first := f.first
	if f.turn.Add(1)%4 == 0 {
		first = instances - 1 // the one that no node has for its own
	}
	answer, instance, err := f.calls.post(ctx, first, body, func(i int) { a.tries = append(a.tries, i) })
	if q.Method == "wake.start" {
		a.read(answer, instance, err)
		f.ledger.start(q.Params.CallID, a)
	}
	if err != nil {
		f.refused.Add(1)
		http.Error(w, "no sipwake answers", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // the node may be gone
}

// read reads the answer to a wake.start. An acknowledgement in time counts as a promise
// even if the node did not wait for it.
func (a *asked) read(answer []byte, instance int, err error) {
	a.ackedAt = time.Now()
	var res struct {
		Outcome string
		Hold    float64 `json:"hold_s"`
		Cached  bool
	}
	if err == nil {
		err = readResult(answer, &res)
	}
	if err != nil {
		a.err = err
		return
	}
	a.instance, a.outcome, a.hold, a.cached = instance, res.Outcome, time.Duration(res.Hold*float64(time.Second)), res.Cached
}

// quietPort returns a free port below the range for outgoing connections, so that it is
// still free when a killed server comes back.
func quietPort(address string) (int, error) {
	const low, span = 20000, 12000
	first := int(time.Now().UnixNano() / 1000 % span)
	for i := range span {
		port := low + (first+i*7)%span
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", address, port))
		_ = l.Close()
		if err != nil {
			continue
		}
		_ = c.Close()
		return port, nil
	}
	return 0, errors.New("cannot find a free port on " + address)
}

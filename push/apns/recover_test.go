package apns_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

func publicKey(t *testing.T, file string) *ecdsa.PublicKey {
	t.Helper()
	contents, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(contents)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &key.(*ecdsa.PrivateKey).PublicKey
}

// onEachHTTP2 runs the test over both HTTP/2 clients.
func onEachHTTP2(t *testing.T, test func(t *testing.T, http2 apns.HTTP2)) {
	for _, http2 := range []apns.HTTP2{apns.HTTP2Own, apns.HTTP2Standard} {
		t.Run(string(http2), func(t *testing.T) { test(t, http2) })
	}
}

// A connection that Apple ends takes no push with it that Apple did not process.
func TestGoAway(t *testing.T) { onEachHTTP2(t, testGoAway) }

func testGoAway(t *testing.T, http2 apns.HTTP2) {
	sim, c := start(t, apnssim.Options{})
	c.HTTP2 = http2
	p := client(t, c)
	sim.Behave(token(1), apnssim.Behaviour{Fault: apnssim.GoAway}, apnssim.Behaviour{})
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Errorf("declared not processed: %+v", r)
	}
	sim.Behave(token(2), apnssim.Behaviour{Fault: apnssim.Leave})
	for range 5 {
		if r := p.Push(within(t, 10*time.Second), call(2)); r.Reason != push.Accepted {
			t.Errorf("ended after the answer: %+v", r)
		}
	}
	for range 5 {
		sim.GoAway()
		if r := p.Push(within(t, 10*time.Second), call(3)); r.Reason != push.Accepted && r.Reason != push.Unavailable {
			t.Errorf("ended while idle: %+v", r)
		}
	}
}

// What may have been processed is never sent twice by the provider; the next
// push goes over another connection.
func TestConnectionLost(t *testing.T) { onEachHTTP2(t, testConnectionLost) }

func testConnectionLost(t *testing.T, http2 apns.HTTP2) {
	for _, fault := range []apnssim.Fault{apnssim.Drop, apnssim.Reset} {
		sim, c := start(t, apnssim.Options{})
		c.HTTP2 = http2
		p := client(t, c)
		sim.Behave(token(1), apnssim.Behaviour{Fault: fault}, apnssim.Behaviour{})
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Unavailable || r.Detail == "" {
			t.Errorf("lost: %+v", r)
		}
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Errorf("after the loss: %+v", r)
		}
		if got := sim.Pushes(); len(got) != 1 || got[0].Connection != 2 {
			t.Errorf("pushes %+v", got)
		}
	}
}

func TestServiceAway(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	sim.Close()
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Unavailable {
		t.Errorf("%+v", r)
	}
}

// A stream that is never answered ends with its deadline and costs the next try
// of the call nothing.
func TestSilentStream(t *testing.T) { onEachHTTP2(t, testSilentStream) }

func testSilentStream(t *testing.T, http2 apns.HTTP2) {
	sim, c := start(t, apnssim.Options{})
	c.HTTP2 = http2
	p := client(t, c)
	sim.Behave(token(1), apnssim.Behaviour{Fault: apnssim.Silence}, apnssim.Behaviour{})
	// Long enough for a new connection on a busy machine.
	if r := p.Push(within(t, time.Second), call(1)); r.Reason != push.Timeout {
		t.Errorf("silent: %+v", r)
	}
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Errorf("second try: %+v", r)
	}
	if got := sim.Pushes(); len(got) != 1 || got[0].Connection != 2 {
		t.Errorf("pushes %+v", got)
	}
}

// Connections that stay open but answer nothing are left for good.
func TestMutedConnections(t *testing.T) { onEachHTTP2(t, testMutedConnections) }

func testMutedConnections(t *testing.T, http2 apns.HTTP2) {
	sim, c := start(t, apnssim.Options{})
	c.HTTP2 = http2
	p := client(t, c)
	var wg sync.WaitGroup
	for i := range 50 { // enough for both lanes
		wg.Go(func() {
			if r := p.Push(within(t, 10*time.Second), call(i)); r.Reason != push.Accepted {
				t.Errorf("before: %+v", r)
			}
		})
	}
	wg.Wait()
	_, before := sim.Connections()
	sim.Mute()
	tries := 0
	for ; tries < 10; tries++ {
		if r := p.Push(within(t, 100*time.Millisecond), call(1)); r.Reason == push.Accepted {
			break
		}
	}
	// Each lane may fail twice before its connection is given up.
	if tries > 2*before {
		t.Errorf("%d tries failed with %d connections", tries, before)
	}
}

func TestCancelledPush(t *testing.T) { onEachHTTP2(t, testCancelledPush) }

func testCancelledPush(t *testing.T, http2 apns.HTTP2) {
	sim, c := start(t, apnssim.Options{})
	c.HTTP2 = http2
	p := client(t, c)
	sim.Behave(token(1), apnssim.Behaviour{Fault: apnssim.Silence})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan push.Reply)
	go func() { done <- p.Push(ctx, call(1)) }()
	cancel()
	if r := <-done; r.Reason != push.Dropped {
		t.Errorf("%+v", r)
	}
}

// A burst on cold connections opens no more of them than configured, even if the
// server allows a single stream, and pushes wait for their turn.
func TestColdBurst(t *testing.T) { onEachHTTP2(t, testColdBurst) }

func testColdBurst(t *testing.T, http2 apns.HTTP2) {
	sim, c := start(t, apnssim.Options{MaxStreams: 1})
	c.HTTP2 = http2
	c.Connections = 3
	p := client(t, c)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if r := p.Push(within(t, 30*time.Second), call(i)); r.Reason != push.Accepted {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	if _, ever := sim.Connections(); ever > 3 {
		t.Errorf("%d connections", ever)
	}
}

// Close lets pushes end and leaves nothing open.
func TestClose(t *testing.T) { onEachHTTP2(t, testClose) }

func testClose(t *testing.T, http2 apns.HTTP2) {
	sim, c := start(t, apnssim.Options{})
	c.HTTP2 = http2
	p := client(t, c)
	arrived, answer := make(chan struct{}), make(chan struct{})
	sim.Behave(token(1), apnssim.Behaviour{Delay: 200 * time.Millisecond})
	go func() {
		close(arrived)
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Errorf("under way: %+v", r)
		}
		close(answer)
	}()
	<-arrived
	p.Close()
	<-answer
	if r := p.Push(within(t, 10*time.Second), call(2)); r.Reason != push.Accepted {
		t.Errorf("after close: %+v", r)
	}
	p.Close()
	await(t, func() bool { open, _ := sim.Connections(); return open == 0 })
}

// await polls for what has no event.
func await(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("waited in vain")
}

// The first pushes to both environments may come at the same time; they have a
// credential in common, and nothing else.
func TestBothEnvironmentsAtOnce(t *testing.T) {
	_, c := start(t, apnssim.Options{})
	var wg sync.WaitGroup
	for _, a := range apps(t, c) {
		wg.Go(func() {
			if r := a.Client.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
				t.Errorf("%s: %+v", a.Environment, r)
			}
		})
	}
	wg.Wait()
}

package webpush_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/webpushsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// A try without an answer is one request, and the next one goes over another
// connection.
func TestConnectionLost(t *testing.T) {
	for _, fault := range []webpushsim.Fault{webpushsim.Drop, webpushsim.Reset, webpushsim.Silence} {
		sim, c := start(t, webpushsim.Options{})
		p := client(t, c)
		sub := subscribe(t, sim, c)
		sim.Behave(sub.URL, webpushsim.Behaviour{}, webpushsim.Behaviour{Fault: fault}, webpushsim.Behaviour{})
		if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Accepted {
			t.Fatalf("before: %+v", r)
		}
		limit, want := 10*time.Second, push.Unavailable
		if fault == webpushsim.Silence {
			limit, want = 100*time.Millisecond, push.Timeout
		}
		if r := p.Push(within(t, limit), call(sub.URL)); r.Reason != want || r.Detail == "" {
			t.Errorf("lost: %+v", r)
		}
		if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Accepted {
			t.Errorf("after the loss: %+v", r)
		}
		if n := sim.Requests(); n != 3 {
			t.Errorf("%d requests", n)
		}
		if _, ever := sim.Connections(); ever != 2 {
			t.Errorf("%d connections", ever)
		}
	}
}

func TestServiceAway(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	sub := subscribe(t, sim, c)
	sim.Close()
	for range 3 {
		if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Unavailable || r.Detail != "connection refused" {
			t.Errorf("%+v", r)
		}
	}
}

func TestCancelledPush(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	sub := subscribe(t, sim, c)
	sim.Behave(sub.URL, webpushsim.Behaviour{Fault: webpushsim.Silence})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan push.Reply)
	go func() { done <- p.Push(ctx, call(sub.URL)) }()
	cancel()
	if r := <-done; r.Reason != push.Dropped {
		t.Errorf("%+v", r)
	}
}

// An answer that never ends costs neither memory nor the push.
func TestEndlessAnswer(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	sub := subscribe(t, sim, c)
	sim.Behave(sub.URL, webpushsim.Behaviour{Fault: webpushsim.Flood})
	if r := p.Push(within(t, 10*time.Second), call(sub.URL)); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
}

// A push service that never answers holds its share of the requests and no more,
// and pushes to it do not wait for long; the others do not notice.
func TestSilentServiceHoldsItsShare(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	good, _ := start(t, webpushsim.Options{})
	c.InFlight, c.OriginInFlight = 8, 4
	c.Hosts = append(c.Hosts, good.Host())
	c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.CAFile, slices.Concat(sim.CA(), good.CA()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := client(t, c)
	bad, fine := subscribe(t, sim, c), subscribe(t, good, c)
	sim.Behave(bad.URL, webpushsim.Behaviour{Fault: webpushsim.Silence})
	for range 3 {
		if r := p.Push(within(t, 100*time.Millisecond), call(bad.URL)); r.Reason != push.Timeout {
			t.Fatalf("%+v", r)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := sim.Requests()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if r := p.Push(ctx, call(bad.URL)); r.Reason != push.Dropped {
				t.Errorf("%+v", r)
			}
		})
	}
	for sim.Requests() < before+4 { // all at the service, or the test ends by its own limit
		if r := p.Push(within(t, 10*time.Second), call(fine.URL)); r.Reason != push.Accepted {
			t.Fatalf("%+v", r)
		}
	}
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			patient := within(t, time.Minute)
			if r := p.Push(patient, call(bad.URL)); r.Reason != push.Throttled || patient.Err() != nil {
				t.Errorf("%+v", r)
			}
		})
	}
	if r := p.Push(within(t, 10*time.Second), call(fine.URL)); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
	waiting.Wait()
	hurried, hurry := context.WithCancel(context.Background())
	hurry()
	if r := p.Push(hurried, call(bad.URL)); r.Reason != push.Dropped {
		t.Errorf("%+v", r)
	}
	if n := sim.Requests(); n != before+4 {
		t.Errorf("%d requests", n-before)
	}
	cancel()
	wg.Wait()
	sim.Behave(bad.URL)
	if r := p.Push(within(t, 10*time.Second), call(bad.URL)); r.Reason != push.Accepted {
		t.Errorf("after it is well again: %+v", r)
	}
}

// A burst to a service that is well loses nothing, though it is far more than
// the service's share.
func TestBurst(t *testing.T) {
	sim, c := start(t, webpushsim.Options{Latency: time.Millisecond})
	c.InFlight, c.OriginInFlight, c.Timeout, c.CallTimeout = 64, 8, time.Minute, time.Minute
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := d.SetApps([]push.App{build(t, c)}); err != nil {
		t.Fatal(err)
	}
	const pushes = 500
	outcomes := make(chan push.Outcome, pushes)
	for range pushes {
		sub := subscribe(t, sim, c)
		d.Push(t.Context(), push.Request{
			Kind: push.Call, Provider: pnparam.WebPush, Token: secret.NewToken(sub.URL), Deadline: time.Now().Add(4 * time.Minute),
		}, func(o push.Outcome) { outcomes <- o })
	}
	for range pushes {
		if o := <-outcomes; o.Reason != push.Accepted {
			t.Fatalf("%+v", o)
		}
	}
	if err := d.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	if _, ever := sim.Connections(); ever > 8 {
		t.Errorf("%d connections", ever)
	}
}

// Close does not cut pushes that are under way, and leaves no connection.
func TestClose(t *testing.T) {
	sim, c := start(t, webpushsim.Options{})
	p := client(t, c)
	sub := subscribe(t, sim, c)
	release := make(chan struct{})
	arrived := make(chan struct{})
	sim.OnDeliver(sub.URL, func(*webpushsim.Message) { close(arrived); <-release })
	done := make(chan push.Reply)
	go func() { done <- p.Push(within(t, 10*time.Second), call(sub.URL)) }()
	<-arrived
	p.Close()
	close(release)
	if r := <-done; r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
	deadline := time.After(10 * time.Second)
	for {
		if open, _ := sim.Connections(); open == 0 {
			return
		}
		select {
		case <-deadline:
			t.Fatal("a connection is left")
		case <-time.After(time.Millisecond):
		}
	}
}

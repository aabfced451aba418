package fcm_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/push"
)

// A network failure is one request and no more: FCM may have taken the push.
func TestConnectionLost(t *testing.T) {
	for _, fault := range []fcmsim.Fault{fcmsim.Drop, fcmsim.Reset} {
		sim, c := start(t, fcmsim.Options{})
		p := client(t, c)
		if r := p.Push(within(t, 10*time.Second), call(2)); r.Reason != push.Accepted {
			t.Fatalf("before: %+v", r)
		}
		sim.Behave(token(1), fcmsim.Behaviour{Fault: fault}, fcmsim.Behaviour{})
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Unavailable || r.Detail == "" {
			t.Errorf("lost: %+v", r)
		}
		if sends, _ := sim.Requests(); sends != 2 {
			t.Errorf("%d requests", sends)
		}
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Errorf("after the loss: %+v", r)
		}
	}
}

func TestServiceAway(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Fatalf("before: %+v", r)
	}
	sim.Close()
	for range 3 {
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Unavailable {
			t.Errorf("%+v", r)
		}
	}
}

func TestSilence(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	if r := p.Push(within(t, 10*time.Second), call(2)); r.Reason != push.Accepted {
		t.Fatalf("before: %+v", r)
	}
	sim.Behave(token(1), fcmsim.Behaviour{Fault: fcmsim.Silence}, fcmsim.Behaviour{Fault: fcmsim.Silence}, fcmsim.Behaviour{})
	for range 2 {
		if r := p.Push(within(t, 100*time.Millisecond), call(1)); r.Reason != push.Timeout {
			t.Errorf("silent: %+v", r)
		}
	}
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Errorf("third try: %+v", r)
	}
	if sends, _ := sim.Requests(); sends != 4 {
		t.Errorf("%d requests", sends)
	}
}

func TestCancelledPush(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	sim.BehaveOAuth(fcmsim.Behaviour{Fault: fcmsim.Silence})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan push.Reply)
	go func() { done <- p.Push(ctx, call(1)) }()
	cancel()
	if r := <-done; r.Reason != push.Dropped {
		t.Errorf("%+v", r)
	}
}

// A cold burst needs one access token and few connections.
func TestColdBurst(t *testing.T) {
	sim, c := start(t, fcmsim.Options{MaxStreams: 20})
	p := client(t, c)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			if r := p.Push(within(t, 30*time.Second), call(i)); r.Reason != push.Accepted {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	if _, grants := sim.Requests(); grants != 1 {
		t.Errorf("%d access tokens", grants)
	}
	if n, _ := sim.Connections(); n > 16 {
		t.Errorf("%d connections", n)
	}
}

func TestTokenEndpointFails(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	f := func(b fcmsim.Behaviour, want push.Reason, detail string) {
		t.Helper()
		sim.BehaveOAuth(b)
		if r := p.Push(within(t, 300*time.Millisecond), call(1)); r.Reason != want || detail != "" && r.Detail != detail {
			t.Errorf("%+v: %+v", b, r)
		}
	}
	f(fcmsim.Behaviour{Status: 400, Code: "invalid_grant"}, push.Credential, "no access token: HTTP 400 invalid_grant")
	f(fcmsim.Behaviour{Status: 401, Code: "invalid_client"}, push.Credential, "no access token: HTTP 401 invalid_client")
	f(fcmsim.Behaviour{Status: 429, Code: "slow_down"}, push.Unavailable, "")
	f(fcmsim.Behaviour{Status: 500, Code: "internal_failure"}, push.Unavailable, "")
	f(fcmsim.Behaviour{Fault: fcmsim.Drop}, push.Unavailable, "")
	f(fcmsim.Behaviour{Fault: fcmsim.Silence}, push.Timeout, "no access token in time")
	if sends, _ := sim.Requests(); sends != 0 {
		t.Errorf("%d requests without an access token", sends)
	}
	sim.BehaveOAuth()
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Errorf("after all that: %+v", r)
	}
}

// An account that the service does not know gets no access token.
func TestForeignAccount(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	contents, err := os.ReadFile(c.CredentialsFile)
	if err != nil {
		t.Fatal(err)
	}
	c.CredentialsFile = filepath.Join(t.TempDir(), "foreign.json")
	foreign := strings.Replace(string(contents), `"client_email": "push-`, `"client_email": "other-`, 1)
	if err := os.WriteFile(c.CredentialsFile, []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := client(t, c).Push(within(t, 10*time.Second), call(1)); r.Reason != push.Credential {
		t.Errorf("%+v", r)
	}
	if sends, _ := sim.Requests(); sends != 0 {
		t.Errorf("%d requests", sends)
	}
}

// An access token that the service ended is a rejected credential only if it is
// nearly new; see also TestRefusedAccessToken.
func TestEndedAccess(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Fatalf("%+v", r)
	}
	sim.EndAccess()
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Credential || r.Detail != "UNAUTHENTICATED" {
		t.Errorf("%+v", r)
	}
}

func TestClose(t *testing.T) {
	sim, c := start(t, fcmsim.Options{})
	p := client(t, c)
	sim.Behave(token(1), fcmsim.Behaviour{Delay: 200 * time.Millisecond})
	begun, ended := make(chan struct{}), make(chan struct{})
	go func() {
		close(begun)
		if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
			t.Errorf("under way: %+v", r)
		}
		close(ended)
	}()
	<-begun
	p.Close()
	<-ended
	if r := p.Push(within(t, 10*time.Second), call(2)); r.Reason != push.Accepted {
		t.Errorf("after close: %+v", r)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		open, _ := sim.Connections()
		if open == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections are still open", open)
		}
	}
}

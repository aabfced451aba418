package apns_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/push/pushtest"
)

// through returns a function that pushes to the n-th token through a dispatcher
// with the configuration's apps.
func through(t *testing.T) (*apnssim.Server, func(n int) push.Outcome) {
	t.Helper()
	sim, c := start(t, apnssim.Options{})
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var list []push.App
	for _, a := range apps(t, c) {
		list = append(list, a)
	}
	if err := d.SetApps(list); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return sim, func(n int) push.Outcome {
		done := make(chan push.Outcome, 1)
		d.Push(context.Background(), push.Request{
			Kind: push.Call, Provider: pnparam.APNs, App: bundle, Service: pnparam.VoIP, Token: secret.NewToken(token(n)),
			Values: push.Values{AOR: "bob@example.com"}, Deadline: time.Now().Add(20 * time.Second),
		}, func(o push.Outcome) { done <- o })
		return <-done
	}
}

// A connection that was begun with another key is left, and the push goes over
// another one; that such an answer lasts is no reason to stop the app.
func TestUnrelatedKeyWantsAnotherConnection(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Fatalf("before: %+v", r)
	}
	sim.Unrelate()
	for i := range 3 {
		if r := p.Push(within(t, 10*time.Second), call(i)); r.Reason != push.Accepted {
			t.Errorf("after: %+v", r)
		}
	}
	if accepted, refused := sim.Counts(); accepted != 4 || refused != 1 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
	await(t, func() bool { open, ever := sim.Connections(); return ever-open == 1 }) // it was closed
}

func TestIdleTimeoutWantsAnotherConnection(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	p := client(t, c)
	sim.Behave(token(1), apnssim.Behaviour{Status: 400, Reason: "IdleTimeout"}, apnssim.Behaviour{})
	if r := p.Push(within(t, 10*time.Second), call(1)); r.Reason != push.Accepted {
		t.Errorf("%+v", r)
	}
	if got := sim.Pushes(); len(got) != 2 || got[0].Connection == got[1].Connection {
		t.Errorf("pushes %+v", got)
	}
}

// Only what is about our credential or the service touches other pushes.
func TestWhichAnswersStopTheApp(t *testing.T) {
	f := func(status int, reason string, want push.Reason) {
		t.Helper()
		sim, send := through(t)
		sim.Behave(token(1), apnssim.Behaviour{Status: status, Reason: reason})
		for range 10 {
			send(1)
		}
		if o := send(2); o.Reason != want {
			t.Errorf("after %d %s another phone: %+v", status, reason, o)
		}
	}
	for _, a := range []struct {
		status int
		reason string
	}{
		{400, "BadDeviceToken"}, {400, "DeviceTokenNotForTopic"}, {400, "IdleTimeout"}, {400, "BadTopic"},
		{400, "TopicDisallowed"}, {403, "UnrelatedKeyIdInToken"}, {403, "ReasonOfTheFuture"}, {410, "Unregistered"},
		{413, "PayloadTooLarge"},
	} {
		f(a.status, a.reason, push.Accepted)
	}
	for _, reason := range []string{
		"BadCertificate", "BadCertificateEnvironment", "BadEnvironmentKeyIdInToken", "BadEnvironmentKeyInToken",
		"ExpiredProviderToken", "Forbidden", "InvalidProviderToken", "MissingProviderToken",
	} {
		f(403, reason, push.BreakerOpen)
	}
	f(500, "InternalServerError", push.BreakerOpen)
}

// Every answer of the table has what it says there, and leaks no token.
func TestTableOfAnswers(t *testing.T) {
	pushtest.Answers(t, apns.Answers(), simulated)
}

// A machine that has no more files is no reason to give a call up.
func TestStarved(t *testing.T) { pushtest.Starved(t, simulated(t)) }

// simulated is an app with the push service that the tests of all providers ask.
func simulated(t *testing.T) pushtest.Service {
	t.Helper()
	sim, c := start(t, apnssim.Options{})
	return pushtest.Service{
		App: apps(t, c)[pnparam.Production],
		Request: push.Request{
			Provider: pnparam.APNs, App: bundle, Environment: pnparam.Production, Service: pnparam.Remote,
			Token: secret.NewToken(token(1)), Values: push.Values{AOR: "bob@example.com"},
		},
		Answer: func(status int, word string) {
			sim.Behave(token(1), apnssim.Behaviour{Status: status, Reason: word})
		},
		Hidden: []string{"eyJ", "PRIVATE"},
	}
}

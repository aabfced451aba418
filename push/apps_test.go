package push_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

func apnsApp(env pnparam.Environment, client push.Provider, packages ...string) push.App {
	return push.App{Provider: pnparam.APNs, Packages: packages, Environment: env, Client: client}
}

func TestApp(t *testing.T) {
	ok := answers(push.Accepted)
	production := apnsApp(pnparam.Production, ok, "com.a", "com.a.beta")
	production.Default = true
	r := newRig(t, production, apnsApp(pnparam.Sandbox, ok, "com.a"), fcmApp(ok),
		push.App{Provider: pnparam.WebPush, Client: ok})
	defer r.stop()

	f := func(p pnparam.Provider, app string, env pnparam.Environment, want bool) {
		t.Helper()
		if _, got := r.App(p, app, env); got != want {
			t.Errorf("App(%s, %q, %q) = %v", p, app, env, got)
		}
	}
	if name, _ := r.App(pnparam.APNs, "com.a.beta", pnparam.Production); name != "com.a" {
		t.Errorf("the app is named %q, want its first package", name)
	}
	f(pnparam.APNs, "com.a", pnparam.Production, true)
	f(pnparam.APNs, "com.a", pnparam.Sandbox, true)
	f(pnparam.APNs, "com.a", "", true) // the default
	f(pnparam.APNs, "com.a.beta", "", true)
	f(pnparam.APNs, "com.a.beta", pnparam.Sandbox, false)
	f(pnparam.APNs, "com.b", pnparam.Production, false)
	f(pnparam.FCM, "com.a", "", false)
	f(pnparam.FCM, theApp, "", true)
	f(pnparam.FCM, theApp, pnparam.Sandbox, true) // FCM has no environments
	f(pnparam.WebPush, "", "", true)

	if got := r.Offers(""); !slices.Equal(got, []push.Offer{{Provider: pnparam.APNs}, {Provider: pnparam.FCM}, {Provider: pnparam.WebPush}}) {
		t.Errorf("Offers() = %v", got)
	}
}

// An app for any package serves those that no other app has, whatever it is named.
func TestAnyPackage(t *testing.T) {
	ok := answers(push.Accepted)
	rest := push.App{Provider: pnparam.FCM, Packages: []string{"project"}, Any: true, Default: true, Client: ok}
	r := newRig(t, fcmApp(ok), rest, apnsApp(pnparam.Production, ok, "com.a"))
	defer r.stop()
	f := func(p pnparam.Provider, app string, env pnparam.Environment, want string) {
		t.Helper()
		if got, _ := r.App(p, app, env); got != want {
			t.Errorf("App(%s, %q, %q) = %q, want %q", p, app, env, got, want)
		}
	}
	f(pnparam.FCM, theApp, "", theApp)
	f(pnparam.FCM, "com.other", "", "project")
	f(pnparam.FCM, "com.other", pnparam.Sandbox, "project")
	f(pnparam.FCM, "project", "", "project")
	f(pnparam.APNs, "com.other", pnparam.Production, "")

	second := rest
	second.Packages = []string{"second"}
	err := r.SetApps([]push.App{rest, second})
	if want := `cannot serve fcm app "second": another app has any_package too`; err == nil || err.Error() != want {
		t.Errorf("two apps for any package: %v, want %s", err, want)
	}
	if got := push.Found([]push.App{rest}, []push.App{second}); got[1].Any {
		t.Error("an app that was found takes the packages of one that is configured")
	}
}

func TestEnvironmentPicksTheClient(t *testing.T) {
	named := func(name string) push.Provider {
		return &service{answer: func(context.Context, *push.Notification) push.Reply {
			return push.Reply{Reason: push.Accepted, ID: name}
		}}
	}
	sandbox := apnsApp(pnparam.Sandbox, named("sandbox"), "com.a")
	sandbox.Default = true
	r := newRig(t, apnsApp(pnparam.Production, named("production"), "com.a"), sandbox)
	defer r.stop()

	for env, want := range map[pnparam.Environment]string{
		pnparam.Production: "production", pnparam.Sandbox: "sandbox", "": "sandbox",
	} {
		req := request(push.Call)
		req.Provider, req.App, req.Environment, req.Service = pnparam.APNs, "com.a", env, pnparam.VoIP
		if o := r.send(req); o.Reason != push.Accepted || o.ID != want || o.Tries != 1 || o.SentAt.IsZero() {
			t.Errorf("push to environment %q: %+v, want it from %s", env, o, want)
		}
	}
}

func TestSetAppsRefusesConflicts(t *testing.T) {
	ok := answers(push.Accepted)
	r := newRig(t, fcmApp(ok))
	defer r.stop()

	def := func(a push.App) push.App { a.Default = true; return a }
	f := func(want string, apps ...push.App) {
		t.Helper()
		err := r.SetApps(apps)
		if err == nil || err.Error() != want {
			t.Errorf("SetApps: %v, want %s", err, want)
		}
		if _, ok := r.App(pnparam.FCM, theApp, ""); !ok {
			t.Error("a refused configuration has replaced the old one")
		}
	}
	f(`cannot serve fcm app "com.example.phone": two apps claim it where no environment is named`, fcmApp(ok), fcmApp(ok))
	f(`cannot serve apns app "x": two apps claim it in environment sandbox`,
		apnsApp(pnparam.Sandbox, ok, "a", "x"), apnsApp(pnparam.Sandbox, ok, "x"))
	f(`cannot serve apns app "x": two apps claim it where no environment is named`,
		def(apnsApp(pnparam.Sandbox, ok, "x")), def(apnsApp(pnparam.Production, ok, "x")))
	f(`cannot serve fcm app "com.example.phone": it has no client`, fcmApp(nil))
}

func TestSameFingerprintKeepsQueueAndClient(t *testing.T) {
	first, second := gated(), answers(push.Accepted)
	print := func(p string) func(*push.App) { return func(a *push.App) { a.Fingerprint = p } }
	r := newRig(t, fcmApp(first, print("1")))
	defer r.stop()
	held := r.start(t.Context(), request(push.Call))
	<-first.started

	if err := r.SetApps([]push.App{fcmApp(second, print("1"))}); err != nil {
		t.Fatal(err)
	}
	if got := r.Apps()[0].InFlight; got != 1 {
		t.Errorf("the app has %d in flight, want the one from before", got)
	}
	close(first.open)
	if o := <-held; o.Reason != push.Accepted {
		t.Errorf("held push: %+v", o)
	}
	r.send(request(push.Call))
	if first.tries.Load() != 2 || second.tries.Load() != 0 || first.closed.Load() != 0 || second.closed.Load() != 0 {
		t.Errorf("tries %d and %d, closed %d and %d", first.tries.Load(), second.tries.Load(),
			first.closed.Load(), second.closed.Load())
	}
}

func TestReplacedAppDrains(t *testing.T) {
	old, next := gated(), answers(push.Accepted)
	small := func(a *push.App) { a.Limits = push.Limits{InFlight: 2} }
	r := newRig(t, fcmApp(old, small))
	var held []<-chan push.Outcome
	for range 50 {
		held = append(held, r.start(t.Context(), request(push.Chat)))
	}
	<-old.started

	if err := r.SetApps([]push.App{fcmApp(next, small)}); err != nil {
		t.Fatal(err)
	}
	if o := r.send(request(push.Chat)); o.Reason != push.Accepted || next.tries.Load() != 1 {
		t.Errorf("a push after the change: %+v, %d tries of the new client", o, next.tries.Load())
	}
	r.wantMetric(`sipwake_push_queue_length{app="com.example.phone",environment="",lane="rest",provider="fcm"} 49`)
	if old.closed.Load() != 0 {
		t.Error("the old client was closed with pushes queued")
	}
	close(old.open)
	for _, h := range held {
		if o := <-h; o.Reason != push.Accepted {
			t.Errorf("queued push: %+v", o)
		}
	}
	r.stop()
	if old.closed.Load() != 1 || next.closed.Load() != 1 {
		t.Errorf("closed %d and %d times, want once each", old.closed.Load(), next.closed.Load())
	}
}

func TestMetricsOfApps(t *testing.T) {
	ok := answers(push.Accepted)
	expiry := func(a *push.App) { a.CredentialExpiry = time.Unix(1_800_000_000, 0); a.Limits.Queue = 7 }
	r := newRig(t, fcmApp(ok, expiry))
	defer r.stop()
	const labels = `app="com.example.phone",environment="",`

	r.wantMetric(`sipwake_push_total{app="com.example.phone",kind="refresh",provider="fcm",reason="token_dead"} 0`)
	r.wantMetric(`sipwake_push_total{app="other",kind="call",provider="apns",reason="no_app"} 0`)
	r.wantMetric(`sipwake_push_retries_total{app="com.example.phone",provider="fcm"} 0`)
	r.wantMetric(`sipwake_push_queue_capacity{` + labels + `lane="calls",provider="fcm"} 7`)
	r.wantMetric(`sipwake_push_queue_rejected_total{` + labels + `lane="rest",provider="fcm"} 0`)
	r.wantMetric(`sipwake_push_in_flight{` + labels + `provider="fcm"} 0`)
	r.wantMetric(`sipwake_push_in_flight_capacity{` + labels + `provider="fcm"} 256`)
	r.wantMetric(`sipwake_push_breaker_state{` + labels + `provider="fcm"} 0`)
	r.wantMetric(`sipwake_credential_expiry_timestamp_seconds{` + labels + `provider="fcm"} 1.8e+09`)

	r.send(request(push.Chat))
	r.wantMetric(`sipwake_push_total{app="com.example.phone",kind="chat",provider="fcm",reason="accepted"} 1`)
	r.wantMetric(`sipwake_push_seconds_count{app="com.example.phone",provider="fcm"} 1`)

	stranger := request(push.Call)
	stranger.Provider = "made-up"
	if o := r.send(stranger); o.Reason != push.NoApp {
		t.Errorf("push to a provider that is not there: %+v", o)
	}
	r.wantMetric(`sipwake_push_total{app="other",kind="call",provider="other",reason="no_app"} 1`)
	stranger.Provider, stranger.App = pnparam.FCM, "made-up"
	if o := r.send(stranger); o.Reason != push.NoApp {
		t.Errorf("push to an app that is not there: %+v", o)
	}
	r.wantMetric(`sipwake_push_total{app="other",kind="call",provider="fcm",reason="no_app"} 1`)
	if strings.Contains(r.metrics(), "made-up") {
		t.Error("a stranger's word is a label")
	}

	if err := r.SetApps(nil); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); strings.Contains(r.metrics(), theApp); {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("the removed app still has series:\n%s", r.metrics())
		}
	}
}

func TestMetricsOfRemovedAppStayUntilItIsEmpty(t *testing.T) {
	g := gated()
	r := newRig(t, fcmApp(g))
	held := r.start(t.Context(), request(push.Call))
	<-g.started
	if err := r.SetApps(nil); err != nil {
		t.Fatal(err)
	}
	r.wantMetric(`sipwake_push_in_flight{app="com.example.phone",environment="",provider="fcm"} 1`)
	if strings.Contains(r.metrics(), "sipwake_push_breaker_state{") {
		t.Error("the removed app has a breaker")
	}
	if o := r.send(request(push.Call)); o.Reason != push.NoApp {
		t.Errorf("push to the removed app: %+v", o)
	}
	close(g.open)
	if o := <-held; o.Reason != push.Accepted {
		t.Errorf("outcome %+v", o)
	}
	r.stop()
}

func TestLimits(t *testing.T) {
	var l push.Limits
	l.SetDefaults()
	want := push.Limits{Queue: 4096, InFlight: 256, Timeout: 5 * time.Second, CallTimeout: 2 * time.Second, Tries: 5,
		BreakerFailures: 5, BreakerPause: 30 * time.Second}
	if l != want {
		t.Errorf("defaults are %+v", l)
	}
	l.Validate(func(field, problem string) { t.Errorf("default of %s %s", field, problem) })

	var got []string
	bad := push.Limits{Queue: -1, InFlight: 1, Timeout: time.Millisecond, CallTimeout: time.Hour, Tries: 21,
		BreakerFailures: -1, BreakerPause: time.Millisecond}
	bad.Validate(func(field, problem string) { got = append(got, fmt.Sprintf("%s %s", field, problem)) })
	if want := []string{
		"queue must be between 1 and 1000000, is -1",
		"in_flight must be between 2 and 10000, is 1",
		"timeout must be between 100ms and 1m0s, is 1ms",
		"call_timeout must be between 100ms and 1m0s, is 1h0m0s",
		"tries must be between 1 and 20, is 21",
		"breaker_failures must be between 1 and 10000, is -1",
		"breaker_pause must be between 1s and 1h0m0s, is 1ms",
	}; !slices.Equal(got, want) {
		t.Errorf("problems:\n%s", strings.Join(got, "\n"))
	}
}

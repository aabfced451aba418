package apns_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
)

// environments are Apple's two, and a key for each that the other one refuses.
type environments struct {
	sims map[pnparam.Environment]*apnssim.Server
	keys map[pnparam.Environment]*apns.Config // with the key and where Apple is
}

func startBoth(t *testing.T) environments {
	t.Helper()
	production, first := start(t, apnssim.Options{})
	sandbox, second := start(t, apnssim.Options{})
	ca := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(ca, append(production.CA(), sandbox.CA()...), 0o600); err != nil {
		t.Fatal(err)
	}
	e := environments{
		sims: map[pnparam.Environment]*apnssim.Server{pnparam.Production: production, pnparam.Sandbox: sandbox},
		keys: map[pnparam.Environment]*apns.Config{pnparam.Production: first, pnparam.Sandbox: second},
	}
	for env, c := range e.keys {
		own, other := production, sandbox
		c.KeyID = "PRODUCTION"
		if env == pnparam.Sandbox {
			own, other, c.KeyID = sandbox, production, "SANDBOX000"
		}
		key, err := own.MakeKey(t.TempDir(), team, c.KeyID, bundle)
		if err != nil {
			t.Fatal(err)
		}
		other.AddForeignKey(team, c.KeyID, publicKey(t, key))
		c.KeyFile, c.CAFile, c.Endpoint, c.SandboxEndpoint = key, ca, production.URL(), sandbox.URL()
	}
	return e
}

// dispatcher serves the apps of the configurations.
func dispatcher(t *testing.T, list ...*apns.Config) *push.Dispatcher {
	t.Helper()
	d := push.NewDispatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var all []push.App
	for _, c := range list {
		c.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
		made, err := c.Apps(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, made...)
	}
	all, err := push.Settle(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetApps(all); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func ring(d *push.Dispatcher, env pnparam.Environment) push.Outcome {
	done := make(chan push.Outcome, 1)
	d.Push(context.Background(), push.Request{
		Kind: push.Call, Provider: pnparam.APNs, App: bundle, Environment: env, Service: pnparam.VoIP,
		Token: secret.NewToken(token(1)), Values: push.Values{AOR: "bob@example.com"}, Deadline: time.Now().Add(20 * time.Second),
	}, func(o push.Outcome) { done <- o })
	return <-done
}

// A key of each environment serves its own, however it is said which one it is for.
func TestKeyForEachEnvironment(t *testing.T) {
	e := startBoth(t)
	f := func(name string, change func(production, sandbox *apns.Config)) {
		t.Helper()
		production, sandbox := *e.keys[pnparam.Production], *e.keys[pnparam.Sandbox]
		change(&production, &sandbox)
		list := []apns.Config{sandbox, production}
		apns.SetDefaults(list)
		d := dispatcher(t, &list[0], &list[1])
		for env, sim := range map[pnparam.Environment]*apnssim.Server{
			pnparam.Production: e.sims[pnparam.Production], pnparam.Sandbox: e.sims[pnparam.Sandbox], "": e.sims[pnparam.Production],
		} {
			before, _ := sim.Counts()
			if o := ring(d, env); o.Reason != push.Accepted {
				t.Errorf("%s: environment %q: %+v", name, env, o)
			}
			if after, _ := sim.Counts(); after != before+1 {
				t.Errorf("%s: environment %q was pushed through the other one", name, env)
			}
		}
	}
	f("environments", func(production, sandbox *apns.Config) {
		production.Environments, sandbox.Environments = []pnparam.Environment{pnparam.Production}, []pnparam.Environment{pnparam.Sandbox}
	})
	f("environment", func(production, sandbox *apns.Config) {
		production.Environment, sandbox.Environment = pnparam.Production, pnparam.Sandbox
	})
	f("the default", func(_, sandbox *apns.Config) { sandbox.Environment = pnparam.Sandbox })
}

// Keys are told apart by their file names too.
func TestKeyForEachEnvironmentByName(t *testing.T) {
	e := startBoth(t)
	dir := t.TempDir()
	for env, c := range e.keys {
		move(t, c.KeyFile, dir, "apns."+bundle+"."+team+"."+c.KeyID+"."+string(env)+".p8")
	}
	list, err := apns.FromDir(dir)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d found: %v", len(list), err)
	}
	for i := range list {
		from := e.keys[pnparam.Production]
		list[i].CAFile, list[i].Endpoint, list[i].SandboxEndpoint = from.CAFile, from.Endpoint, from.SandboxEndpoint
	}
	d := dispatcher(t, &list[0], &list[1])
	for _, env := range []pnparam.Environment{pnparam.Production, pnparam.Sandbox, ""} {
		if o := ring(d, env); o.Reason != push.Accepted {
			t.Errorf("environment %q: %+v", env, o)
		}
	}
}

// A key that is for the other environment is named as that, and stops no push but
// those of its own.
func TestKeyOfTheOtherEnvironment(t *testing.T) {
	e := startBoth(t)
	c := *e.keys[pnparam.Sandbox]
	c.SetDefaults() // good for both, as it would seem
	d := dispatcher(t, &c)
	o := ring(d, pnparam.Production)
	const want = "BadEnvironmentKeyInToken: the key is not for production"
	if o.Reason != push.Credential || o.Detail != want {
		t.Errorf("%+v, want %s", o, want)
	}
	if o := ring(d, pnparam.Sandbox); o.Reason != push.Accepted {
		t.Errorf("the key's own environment: %+v", o)
	}
}

// A key that Apple holds to topics of other apps is refused for this one alone.
func TestKeyOfAnotherTopic(t *testing.T) {
	_, c := start(t, apnssim.Options{})
	other := *c
	other.BundleID = "org.example.other"
	list := []apns.Config{*c, other}
	apns.SetDefaults(list)
	d := dispatcher(t, &list[0], &list[1])
	done := make(chan push.Outcome, 1)
	d.Push(context.Background(), push.Request{
		Kind: push.Chat, Provider: pnparam.APNs, App: other.BundleID, Token: secret.NewToken(token(2)),
		Values: push.Values{AOR: "bob@example.com"}, Deadline: time.Now().Add(20 * time.Second),
	}, func(o push.Outcome) { done <- o })
	if o := <-done; o.Reason != push.BadRequest || !strings.HasPrefix(o.Detail, "TopicDisallowed") {
		t.Errorf("%+v", o)
	}
	if o := ring(d, ""); o.Reason != push.Accepted {
		t.Errorf("the key's own topic: %+v", o)
	}
}

// Two certificates, one for each environment, are two entries as well.
func TestCertificateForEachEnvironment(t *testing.T) {
	sim, c := start(t, apnssim.Options{})
	list := make([]apns.Config, 2)
	for i := range list {
		_, file, err := sim.MakeCertificate(t.TempDir(), apnssim.Certificate{BundleID: bundle, Production: i == 0, Sandbox: i == 1})
		if err != nil {
			t.Fatal(err)
		}
		list[i] = apns.Config{BundleID: bundle, CertificateFile: file, CAFile: c.CAFile, Endpoint: sim.URL(), SandboxEndpoint: sim.URL()}
	}
	list[1].Environment = pnparam.Sandbox
	apns.SetDefaults(list)
	d := dispatcher(t, &list[0], &list[1])
	for _, env := range []pnparam.Environment{pnparam.Production, pnparam.Sandbox, ""} {
		if o := ring(d, env); o.Reason != push.Accepted {
			t.Errorf("environment %q: %+v", env, o)
		}
	}
}

package fcm_test

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
	"github.com/sipwake/sipwake/push/pushtest"
)

// through returns a function that pushes to the n-th token through a dispatcher
// with the configuration's app.
func through(t *testing.T, log io.Writer) (*fcmsim.Server, func(n int) push.Outcome) {
	t.Helper()
	sim, c := start(t, fcmsim.Options{})
	d := push.NewDispatcher(slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	if err := d.SetApps([]push.App{build(t, c)}); err != nil {
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
			Kind: push.Call, Provider: pnparam.FCM, App: project, Token: secret.NewToken(token(n)),
			Values: push.Values{AOR: "bob@example.com"}, Deadline: time.Now().Add(20 * time.Second),
		}, func(o push.Outcome) { done <- o })
		return <-done
	}
}

// What FCM says of one token, or of the credential that it keeps for one
// platform, stops no other push of the project, by whatever name it says so.
func TestOnePlatformsErrorStopsNoOther(t *testing.T) {
	for _, answer := range []fcmsim.Behaviour{
		{Status: 401, Code: "THIRD_PARTY_AUTH_ERROR"},
		{Status: 401, Code: "THIRD_PARTY_AUTH_ERROR", APNs: "InvalidProviderToken"},
		{Status: 401, Code: "APNS_AUTH_ERROR"},
		{Status: 403, Code: "THIRD_PARTY_AUTH_ERROR"},
		{Status: 401, APNs: "BadCertificate"},
		{Status: 401, Code: "InvalidApnsCredential"},
		{Status: 401, Code: "A_NAME_OF_THE_FUTURE"},
		{Status: 403, Code: "SENDER_ID_MISMATCH"},
		{Status: 403, Code: "MismatchSenderId"},
		{Status: 403, Code: "A_NAME_OF_THE_FUTURE"},
	} {
		sim, send := through(t, io.Discard)
		sim.Behave(token(1), answer)
		for range 10 {
			if o := send(1); o.Reason != push.Credential && o.Reason != push.TokenBad {
				t.Errorf("%+v: %+v", answer, o)
			}
		}
		if o := send(2); o.Reason != push.Accepted {
			t.Errorf("after %+v another phone: %+v", answer, o)
		}
	}
}

// Our own account's refusal stops the app.
func TestOwnCredentialStopsTheApp(t *testing.T) {
	for _, answer := range []fcmsim.Behaviour{
		{Status: 401, Code: "UNAUTHENTICATED"},
		{Status: 403, Code: "PERMISSION_DENIED"},
		{Status: 403, Body: "<html>"},
	} {
		sim, send := through(t, io.Discard)
		sim.Behave(token(1), answer)
		if o := send(1); o.Reason != push.Credential {
			t.Errorf("%+v: %+v", answer, o)
		}
		if o := send(2); o.Reason != push.BreakerOpen {
			t.Errorf("after %+v: %+v", answer, o)
		}
	}
}

// Every answer of the table has what it says there, and leaks no token.
func TestTableOfAnswers(t *testing.T) {
	pushtest.Answers(t, fcm.Answers(), simulated)
}

// A machine that has no more files is no reason to give a call up.
func TestStarved(t *testing.T) { pushtest.Starved(t, simulated(t)) }

// Nor is it for an account without a key, whose token comes from a file or from others.
func TestStarvedWithoutKey(t *testing.T) {
	f := func(name string, change func(*fcmsim.Server, *fcm.Config) error) {
		t.Run(name, func(t *testing.T) {
			sim, c := start(t, fcmsim.Options{})
			if err := change(sim, c); err != nil {
				t.Fatal(err)
			}
			c.ProjectID = project
			pushtest.Starved(t, pushtest.Service{App: build(t, c), Request: aRequest()})
		})
	}
	f("subject in a file", func(sim *fcmsim.Server, c *fcm.Config) (err error) {
		c.CredentialsFile, _, err = sim.MakeExternal(t.TempDir(), project, fcmsim.External{})
		return err
	})
	f("impersonation", func(sim *fcmsim.Server, c *fcm.Config) (err error) {
		c.CredentialsFile, err = sim.MakeImpersonated(t.TempDir(), project)
		return err
	})
	f("metadata server", func(sim *fcmsim.Server, c *fcm.Config) error {
		machine := httptest.NewServer(sim.Metadata(project))
		t.Cleanup(machine.Close)
		t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(machine.URL, "http://"))
		c.CredentialsFile, c.MetadataServer = "", true
		return nil
	})
}

// aRequest is a push to the first token.
func aRequest() push.Request {
	return push.Request{Provider: pnparam.FCM, App: project, Token: secret.NewToken(token(1)), Values: push.Values{AOR: "bob@example.com"}}
}

// simulated is an app with the push service that the tests of all providers ask.
func simulated(t *testing.T) pushtest.Service {
	t.Helper()
	sim, c := start(t, fcmsim.Options{})
	return pushtest.Service{
		App:     build(t, c),
		Request: aRequest(),
		Answer: func(status int, word string) {
			code, field, _ := strings.Cut(word, " ")
			b := fcmsim.Behaviour{Status: status, Code: code, Field: field, Message: token(1)}
			if status == 200 || word == "" {
				b.Body = `{"token":"` + token(1) + `"}`
			}
			sim.Behave(token(1), b)
		},
		Hidden: []string{"ya29", "eyJ", "PRIVATE"},
	}
}

package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/fcm"
)

func TestLoadPayloads(t *testing.T) {
	c, err := Load("testdata/good-payloads.yml")
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: want -, got +:\n%s", what, d)
		}
	}
	f("apns[0]", c.APNs[0].Options, push.Options{
		TemplatesDir: "/etc/sipwake/templates",
		Templates:    map[string]string{"call_voip": "/etc/sipwake/call.json"},
		Sounds:       map[push.Kind]string{push.Call: "ring.caf"},
		TTL:          map[push.Kind]time.Duration{push.Chat: time.Hour, push.Call: 5 * time.Second},
		Priority:     map[push.Kind]push.Priority{push.Chat: push.Normal},
		PushType:     map[push.Kind]push.Type{push.Cancel: push.TypeAlert},
	})
	f("apns[0].policy", c.APNs[0].Policy, push.Policy{
		Unregister: push.UnregisterRemove, Chat: push.ChatAlways, Cancel: push.CancelPushed, Late: push.LateCancel, MissedCall: true, Privacy: push.PrivacyNone,
		When: map[push.Kind]push.When{push.Chat: push.WhenLowLoad, push.Call: push.WhenAlways},
	})
	f("fcm[0].policy", c.FCM[0].Policy, push.Policy{Unregister: push.UnregisterKeep, Chat: push.ChatNoAnswer, Cancel: push.CancelPushed, Late: push.LateCancel,
		Privacy: push.PrivacyNone})
	f("fcm[0].notification", c.FCM[0].Notification, fcm.NotificationCalls)
	f("credentials_dir", c.CredentialsDir, "/etc/sipwake/credentials")
}

package push_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

// A cancel push follows an FCM push also when another device answered: there the
// push itself shows the call.
func TestPolicyDefaultOfCancel(t *testing.T) {
	f := func(p pnparam.Provider, want push.CancelRule) {
		t.Helper()
		r := newRig(t, push.App{Provider: p, Packages: []string{"com.a"}, Client: answers(push.Accepted)})
		defer r.stop()
		if got := r.Policy(p, "com.a", "").Cancel; got != want {
			t.Errorf("%s: %s", p, got)
		}
	}
	f(pnparam.FCM, push.CancelPushed)
	f(pnparam.APNs, push.CancelUnanswered)
	f(pnparam.WebPush, push.CancelUnanswered)
	f("hms", push.CancelUnanswered)
}

func TestPolicyAllows(t *testing.T) {
	f := func(when push.When, k push.Kind, want string) {
		t.Helper()
		var p push.Policy
		if when != "" {
			p.When = map[push.Kind]push.When{k: when}
		}
		p.SetDefaults(pnparam.FCM)
		p.Validate(func(field, problem string) { t.Errorf("%s: %s", field, problem) })
		got := ""
		for level := range 5 {
			switch reason := p.Refusal(k, level); {
			case reason == "":
				got += string(rune('0' + level))
			case (reason == push.Denied) != (when == push.WhenNever), reason != push.Denied && reason != push.ByPolicy:
				t.Errorf("%q %s at level %d: %s", when, k, level, reason)
			}
		}
		if got != want {
			t.Errorf("%q %s is allowed at levels %q, want %q", when, k, got, want)
		}
	}
	for _, k := range push.Kinds() {
		unless := "012"
		if k == push.Call {
			unless = "01234" // calls go on until their queue is full
		}
		f("", k, unless)
		f(push.WhenYes, k, unless)
		f(push.WhenNever, k, "")
		f(push.WhenLowLoad, k, "01")
		f(push.WhenAlways, k, "01234")
	}
}

func TestPolicyValidate(t *testing.T) {
	f := func(p push.Policy, want ...string) {
		t.Helper()
		p.SetDefaults(pnparam.FCM)
		var got []string
		p.Validate(func(field, problem string) { got = append(got, field+": "+problem) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	f(push.Policy{})
	f(push.Policy{Unregister: "no"}, "unregister: must be keep, remove or ignore")
	f(push.Policy{Privacy: "yes"}, "privacy: must be none, number or full")
	f(push.Policy{Cancel: "no"}, "cancel: must be never, unanswered, pushed or always")
	f(push.Policy{NotOver: []string{"ws", "http"}}, "not_over[1]: must be udp, tcp, tls, sctp, ws or wss")
	f(push.Policy{When: map[push.Kind]push.When{"call": "no"}}, "when.call: must be never, low_load, yes or always")
	f(push.Policy{When: map[push.Kind]push.When{"ring": "yes"}}, "when: has a kind that is none of call, chat, cancel, custom and refresh")
}

func TestPolicyOfAnApp(t *testing.T) {
	ok := answers(push.Accepted)
	production := apnsApp(pnparam.Production, ok, "com.a", "com.b")
	production.Default, production.Policy.Unregister = true, push.UnregisterRemove
	sandbox := apnsApp(pnparam.Sandbox, ok, "com.a")
	sandbox.Policy = push.Policy{Unregister: push.UnregisterIgnore, Cancel: push.CancelNever}
	r := newRig(t, production, sandbox)
	defer r.stop()
	f := func(app string, env pnparam.Environment, unregister push.Unregister, cancel push.CancelRule) {
		t.Helper()
		if p := r.Policy(pnparam.APNs, app, env); p.Unregister != unregister || p.Cancel != cancel {
			t.Errorf("policy of %s %s: %+v", app, env, p)
		}
	}
	f("com.a", "", push.UnregisterRemove, push.CancelUnanswered)
	f("com.b", pnparam.Production, push.UnregisterRemove, push.CancelUnanswered)
	f("com.a", pnparam.Sandbox, push.UnregisterIgnore, push.CancelNever)
	f("com.c", "", push.UnregisterKeep, push.CancelUnanswered)
}

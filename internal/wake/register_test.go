package wake_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

func TestRegisterStores(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		res := r.register(phone("1"))
		if res.Status != wake.StatusStored || res.Devices != 1 || res.Code != 200 || !slices.Equal(res.FeatureCaps, []string{`*;+sip.pns="fcm"`}) {
			t.Errorf("the answer is %+v", res)
		}
		if res := r.register(phone("1")); res.Status != wake.StatusRefreshed {
			t.Errorf("the second is %+v", res)
		}
		b := r.binding("1")
		if b.AOR != bob || b.Address.Token("").Reveal() != "token-1" || b.Node != "sip1" || !b.ExpiresAt.Equal(b.RegisteredAt.Add(time.Hour)) {
			t.Errorf("stored is %+v", b)
		}
	})
}

// A phone that registers is signalled to every call that is held for it.
func TestInvariant1RegisterSignalsEveryWake(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.start("b", func(p *wake.StartParams) { p.Node = "sip2" })
		if res := r.register(phone("1")); res.Wakes != 2 {
			t.Errorf("the answer is %+v", res)
		}
		told := r.node.told()
		slices.Sort(told)
		if !slices.Equal(told, []string{"wake sip1 1", "wake sip2 1"}) {
			t.Errorf("told is %q", told)
		}
		r.wantEvent("a", trace.Registered)
	})
}

// A REGISTER that ends the registration wakes nobody, and does with the binding
// what the app's policy says.
func TestUnregister(t *testing.T) {
	f := func(policy push.Unregister, status wake.Status, devices ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.pusher.policy.Unregister = policy
			r.asleep(phone("1"))
			r.start("a")
			gone := strings.Replace(phone("1"), ";+sip", ";expires=0;+sip", 1)
			res := r.registerAs(wake.RegisterParams{Contact: gone, Expires: -1, CallID: "registration"})
			if res.Status != status || res.Wakes != 0 {
				t.Errorf("%s: the answer is %+v", policy, res)
			}
			r.wantBindings(devices...)
			r.wantSignals()
		})
	}
	f(push.UnregisterKeep, wake.StatusRefreshed, "1")
	f(push.UnregisterRemove, wake.StatusRemoved)
	f(push.UnregisterIgnore, wake.StatusNone, "1")
}

// A phone gets no binding over a transport that the app's policy leaves out; a call that
// is held for it is sent on all the same.
func TestNotOver(t *testing.T) {
	f := func(source string, status wake.Status, devices ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.pusher.policy.NotOver = []string{"ws"}
			r.asleep(phone("1"))
			r.start("a")
			res := r.registerAs(wake.RegisterParams{Contact: phone("2"), Expires: 60, CallID: "two", Source: source})
			if res.Status != status || res.Wakes != 1 || (len(res.FeatureCaps) == 0) != (status == wake.StatusNone) || res.Sleeps != (status != wake.StatusNone) {
				t.Errorf("%s: the answer is %+v", source, res)
			}
			r.wantBindings(devices...)
		})
	}
	f("tls:192.0.2.7:5061", wake.StatusStored, "1", "2")
	f("", wake.StatusStored, "1", "2")
	f("ws:192.0.2.7:443", wake.StatusNone, "1")
	f("WSS:[2001:db8::1]:443", wake.StatusNone, "1")
}

// Push data that is taken back: the device is found by its instance, by its
// registration, or because there is only one.
func TestUnbind(t *testing.T) {
	f := func(contact, callID string, devices ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.registerAs(wake.RegisterParams{Contact: phone("1"), CallID: "one"})
			r.registerAs(wake.RegisterParams{Contact: strings.Replace(phone("2"), "192.0.2.1", "192.0.2.2", 1), CallID: "two"})
			r.registerAs(wake.RegisterParams{Contact: contact, CallID: callID, Headers: map[string]string{"X-MPUSH": "null"}})
			r.wantBindings(devices...)
		})
	}
	f(`<sip:bob@192.0.2.9>;+sip.instance="<urn:uuid:1>"`, "x", "2")
	f("<sip:bob@192.0.2.9>", "two", "1")
	f("<sip:bob@192.0.2.9>", "x", "1", "2")
	inBubble(t, nil, func(r *rig) {
		r.register(phone("1"))
		if res := r.registerAs(wake.RegisterParams{Contact: "<sip:bob@192.0.2.9>", Headers: map[string]string{"X-MPUSH": "null"}}); res.Status != wake.StatusRemoved {
			t.Errorf("the only one: %+v", res)
		}
		r.wantBindings()
	})
}

func TestRegisterWithoutPush(t *testing.T) {
	plain := `<sip:bob@192.0.2.1>;+sip.instance="<urn:uuid:1>"`
	f := func(unbind bool, devices ...string) {
		t.Helper()
		inBubble(t, func(c *wake.Config) { c.UnbindWithoutPush = unbind }, func(r *rig) {
			r.register(phone("1"))
			r.register(plain)
			r.register("<sip:desk@192.0.2.7>")
			r.wantBindings(devices...)
		})
	}
	f(false, "1")
	f(true)
}

func TestRegisterRefused(t *testing.T) {
	inBubble(t, nil, func(r *rig) { // an app that is not served: its push data is passed over
		r.pusher.unserved = true
		if res := r.register(phone("1")); res.Status != wake.StatusRefused || res.Code != 200 || res.FeatureCaps != nil {
			t.Errorf("the answer is %+v", res)
		}
		r.wantBindings()
		r.start("a") // but it is a sign of life
		r.wantSignals("wake sip1 1")
	})
	inBubble(t, func(c *wake.Config) { c.Reject555 = true }, func(r *rig) {
		r.pusher.unserved = true
		if res := r.register(phone("1")); res.Code != 555 {
			t.Errorf("the answer is %+v", res)
		}
	})
	inBubble(t, func(c *wake.Config) { c.MinExpires = 10 * time.Minute }, func(r *rig) {
		res := r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 60})
		if res.Status != wake.StatusRefused || res.Code != 423 || res.MinExpires != 600 {
			t.Errorf("the answer is %+v", res)
		}
		r.wantBindings()
	})
}

func TestRegisterQuery(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		res := r.register("<sip:bob@192.0.2.1;pn-provider>")
		if res.Status != wake.StatusQueried || !slices.Equal(res.FeatureCaps, []string{`*;+sip.pns="apns"`, `*;+sip.pns="fcm"`}) {
			t.Errorf("the answer is %+v", res)
		}
		f := func(asked string, status wake.Status, code int, caps ...string) {
			t.Helper()
			res := r.register("<sip:bob@192.0.2.1;pn-provider=" + asked + ">")
			if res.Status != status || res.Code != code || !slices.Equal(res.FeatureCaps, caps) || res.Sleeps || res.Contact != "<sip:bob@192.0.2.1>" {
				t.Errorf("%s: the answer is %+v", asked, res)
			}
		}
		f("fcm", wake.StatusQueried, 200, `*;+sip.pns="fcm"`)
		f("apple;pn-prid=", wake.StatusQueried, 200, `*;+sip.pns="apns"`)
		f("webpush", wake.StatusQueried, 200)
		f("acme", wake.StatusQueried, 200)
	})
	inBubble(t, func(c *wake.Config) { c.Reject555 = true }, func(r *rig) {
		res := r.register("<sip:bob@192.0.2.1;pn-provider=acme>")
		if res.Status != wake.StatusRefused || res.Code != 555 || res.FeatureCaps != nil || res.Problem == "" {
			t.Errorf("the answer is %+v", res)
		}
	})
}

func TestRegisterRefreshCaps(t *testing.T) {
	inBubble(t, func(c *wake.Config) { c.Refresh.Enabled = true }, func(r *rig) {
		res := r.register(strings.Replace(phone("1"), ";+sip", ";+sip.pnsreg;+sip", 1))
		if !slices.Equal(res.FeatureCaps, []string{`*;+sip.pns="fcm";+sip.pnsreg="180"`}) {
			t.Errorf("the answer is %+v", res)
		}
		// There is no time for a push before it ends.
		res = r.registerAs(wake.RegisterParams{Contact: phone("2"), Expires: 239})
		if res.Status != wake.StatusRefused || res.Code != 423 || res.MinExpires != 240 {
			t.Errorf("the answer to a short registration is %+v", res)
		}
		if res = r.registerAs(wake.RegisterParams{Contact: phone("2"), Expires: 240}); res.Code != 200 {
			t.Errorf("the answer to the next one is %+v", res)
		}
	})
	inBubble(t, nil, func(r *rig) {
		if res := r.registerAs(wake.RegisterParams{Contact: phone("2"), Expires: 60}); res.Code != 200 {
			t.Errorf("without refresh pushes the answer is %+v", res)
		}
	})
}

// While the store is away, the calls that are known here are told.
func TestRegisterStoreAway(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		r.store.set(func(m *memory) { m.err = fmt.Errorf("%w: gone", wake.ErrUnavailable) })
		if _, err := r.tryRegister(wake.RegisterParams{Contact: phone("1")}); !errors.Is(err, wake.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
		r.wantSignals("wake sip1 1")
	})
}

func TestRegisterBadParams(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		f := func(field string, p wake.RegisterParams) {
			t.Helper()
			_, err := r.service.Register(r.t.Context(), p)
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != field {
				t.Errorf("%s: error is %v", field, err)
			}
		}
		f("node", wake.RegisterParams{AOR: bob, CallID: "c"})
		f("aor", wake.RegisterParams{Node: "sip1", AOR: "bob@", CallID: "c"})
		f("aor", wake.RegisterParams{Node: "sip1", AOR: strings.Repeat("x", 300), CallID: "c"})
		f("call_id", wake.RegisterParams{Node: "sip1", AOR: bob})
		f("call_id", wake.RegisterParams{Node: "sip1", AOR: bob, CallID: strings.Repeat("x", 300)})
		f("contact", wake.RegisterParams{Node: "sip1", AOR: bob, CallID: "c", Contact: "<sip:bob@192.0.2.1"})
	})
}

// What is wrong with push data is said, and nothing is stored; but the phone is
// there, and the calls that are held for it hear of that.
func TestRegisterUnreadable(t *testing.T) {
	f := func(problem string, p wake.RegisterParams) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.asleep(phone("1"))
			r.start("a")
			res := r.registerAs(p)
			if res.Status != wake.StatusRefused || res.Code != 200 || res.Problem != problem || res.Sleeps || res.FeatureCaps != nil || res.Wakes != 1 {
				t.Errorf("the answer is %+v", res)
			}
			if strings.Contains(res.Contact, "pn-") {
				t.Errorf("the Contact is %s", res.Contact)
			}
			r.wantBindings("1")
			if told := r.node.told(); len(told) != 1 {
				t.Errorf("told is %q", told)
			}
		})
	}
	f("contact: pn-prid is not a device token in hexadecimal", wake.RegisterParams{Contact: contact("apns", "1", "xyz")})
	f("contact: pn-prid has a bad percent escape", wake.RegisterParams{Contact: contact("fcm", "2", "%zz")})
	f("contact: +sip.instance is longer than 255 bytes", wake.RegisterParams{Contact: phone(strings.Repeat("1", 300))})
	f("contact: has a character that no URI may have", wake.RegisterParams{Contact: contact("fcm", "1", `"x"`)})
	f("X-MPUSH: is not PROVIDER:PACKAGE:TOKEN", wake.RegisterParams{Contact: phone("1"), Headers: map[string]string{"X-MPUSH": "x"}})
}

// Which contacts sleep, and which Contact is saved. A phone is only told that it is
// pushed if it is.
func TestRegisterSleeps(t *testing.T) {
	const plain = `<sip:bob@192.0.2.1:5060>;+sip.instance="<urn:uuid:1>"`
	saved := strings.Replace(plain, ">", ";swid=b78477b77781>", 1)
	f := func(name string, sleeps bool, status wake.Status, want string, res wake.RegisterResult) {
		t.Helper()
		if res.Sleeps != sleeps || res.Status != status || res.Contact != want || (len(res.FeatureCaps) > 0) != sleeps {
			t.Errorf("%s: the answer is %+v", name, res)
		}
	}
	gone := strings.Replace(phone("1"), ";+sip", ";expires=0;+sip", 1)
	savedGone := strings.Replace(saved, ";+sip", ";expires=0;+sip", 1)
	inBubble(t, nil, func(r *rig) {
		f("gone, and never was", false, wake.StatusNone, savedGone, r.registerAs(wake.RegisterParams{Contact: gone, Expires: -1}))
		f("new", true, wake.StatusStored, saved, r.registerAs(wake.RegisterParams{Contact: phone("1"), CallID: "c"}))
		f("again", true, wake.StatusRefreshed, saved, r.registerAs(wake.RegisterParams{Contact: phone("1"), CallID: "c"}))
		r.cseq = 0
		f("overtaken", true, wake.StatusStale, saved, r.registerAs(wake.RegisterParams{Contact: phone("1"), CallID: "c"}))
		f("gone", false, wake.StatusRefreshed, savedGone, r.registerAs(wake.RegisterParams{Contact: gone, Expires: -1}))
		f("without push data", false, wake.StatusNone, "", r.register(plain))
		f("taken back", false, wake.StatusRemoved, saved, r.register(contact("fcm", "1", "null")))
	})
	inBubble(t, nil, func(r *rig) {
		r.pusher.unserved = true
		res := r.register(phone("1"))
		f("not served", false, wake.StatusRefused, saved, res)
		if res.Problem == "" {
			t.Error("no word of why")
		}
	})
	inBubble(t, nil, func(r *rig) {
		r.pusher.policy.Unregister = push.UnregisterIgnore
		r.register(phone("1"))
		f("gone, ignored", false, wake.StatusNone, savedGone, r.registerAs(wake.RegisterParams{Contact: gone, Expires: -1}))
	})
}

// One phone with two accounts is woken for both; one that has gone from one account
// to another only for that.
func TestRegisterSecondAccount(t *testing.T) {
	carol := func(p *wake.StartParams) { p.AOR = "carol@example.com" }
	inBubble(t, nil, func(r *rig) {
		for range 3 {
			r.register(phone("1"))
			r.registerAs(wake.RegisterParams{Contact: phone("1"), AOR: "carol@example.com"})
		}
		r.sleep(5 * time.Second)
		wantOutcome(r, r.start("a"), wake.OutcomePushing, 1)
		wantOutcome(r, r.start("b", carol), wake.OutcomePushing, 1)
	})
	inBubble(t, nil, func(r *rig) { // the first registration has run out
		r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 60})
		r.sleep(2 * time.Minute)
		r.registerAs(wake.RegisterParams{Contact: phone("1"), AOR: "carol@example.com"})
		r.wantBindings()
	})
	inBubble(t, nil, func(r *rig) { // it runs out later
		r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 60})
		r.registerAs(wake.RegisterParams{Contact: phone("1"), AOR: "carol@example.com"})
		r.wantBindings("1")
		r.sleep(2 * time.Minute)
		r.registerAs(wake.RegisterParams{Contact: phone("1"), AOR: "carol@example.com"})
		r.wantBindings()
	})
}

// A REGISTER that the store took late.
func TestReplayed(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.asleep(phone("1"))
		r.start("a")
		b := r.binding("1")
		w := r.service.OpenWakes()[0]
		r.service.Replayed(t.Context(), wake.Registration{Binding: b, Action: wake.ActionBind, Late: true},
			wake.Registered{Status: wake.StatusRemoved, Wakes: []wake.Wake{w}})
		synctest.Wait()
		r.wantSignals("wake sip1 1")
		if r.metric("sipwake_bindings_removed_total") != 1 {
			t.Error("the removal was not counted")
		}
	})
}

// A registration that ends without push data does what the policy says, too.
func TestUnregisterWithoutPushData(t *testing.T) {
	f := func(policy push.Unregister, p wake.RegisterParams, devices ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.pusher.policy.Unregister = policy
			r.registerAs(wake.RegisterParams{Contact: phone("1"), CallID: "one"})
			r.registerAs(wake.RegisterParams{Contact: phone("2"), CallID: "two"})
			p.Expires = -1
			if _, err := r.tryRegister(p); err != nil {
				r.fatal("%v", err)
			}
			r.wantBindings(devices...)
		})
	}
	plain := func(device string) string {
		return fmt.Sprintf(`<sip:bob@192.0.2.1:5060>;+sip.instance="<urn:uuid:%s>";expires=0`, device)
	}
	f(push.UnregisterRemove, wake.RegisterParams{Contact: plain("1"), CallID: "x"}, "2")
	f(push.UnregisterRemove, wake.RegisterParams{Contact: "<sip:bob@192.0.2.1:5060>;expires=0", CallID: "two"}, "1")
	f(push.UnregisterRemove, wake.RegisterParams{Contact: "<sip:desk@192.0.2.9>;expires=0", CallID: "x"}, "1", "2")
	f(push.UnregisterKeep, wake.RegisterParams{Contact: plain("1"), CallID: "x"}, "1", "2")
	f(push.UnregisterIgnore, wake.RegisterParams{Contact: plain("1"), CallID: "x"}, "1", "2")
}

// So does "Contact: *", for all devices.
func TestUnregisterAll(t *testing.T) {
	f := func(policy push.Unregister, status wake.Status, devices ...string) {
		t.Helper()
		inBubble(t, nil, func(r *rig) {
			r.pusher.policy.Unregister = policy
			r.asleep(phone("1"), phone("2"))
			r.cseq++
			res, err := r.service.Register(r.t.Context(), wake.RegisterParams{Node: "sip1", AOR: bob, Contact: "*", CallID: "x", CSeq: r.cseq})
			if err != nil || res.Status != status {
				r.fatal("%s: %+v, %v", policy, res, err)
			}
			r.wantBindings(devices...)
		})
	}
	f(push.UnregisterRemove, wake.StatusNone)
	f(push.UnregisterKeep, wake.StatusNone, "1", "2")
	f(push.UnregisterIgnore, wake.StatusNone, "1", "2")
}

package wake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

func TestBindingsAndRemove(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		ctx, token := r.t.Context(), secret.NewToken("token-1")
		r.register(phone("1"))
		r.register(phone("2"))
		if list, err := r.service.Bindings(ctx, "", token); err != nil || len(list) != 1 {
			t.Errorf("by token: %d, %v", len(list), err)
		}
		if _, err := r.service.Bindings(ctx, "", secret.Token{}); err == nil {
			t.Error("no error for nothing at all")
		}
		if n, err := r.service.RemoveBindings(ctx, wake.Caller{}, "", "", token); n != 1 || err != nil {
			t.Errorf("removed %d by token, %v", n, err)
		}
		if n, err := r.service.RemoveBindings(ctx, wake.Caller{}, bob, instance("2"), secret.Token{}); n != 1 || err != nil {
			t.Errorf("removed %d by device, %v", n, err)
		}
		if _, err := r.service.RemoveBindings(ctx, wake.Caller{}, "", "", secret.Token{}); err == nil {
			t.Error("no error for nothing at all")
		}
		r.register(phone("1"))
		r.store.set(func(m *memory) { m.err = wake.ErrUnavailable })
		if _, err := r.service.RemoveBindings(ctx, wake.Caller{}, "", "", token); err == nil {
			t.Error("no error from a store that is away")
		}
		if _, err := r.service.RemoveBindings(ctx, wake.Caller{}, bob, "", secret.Token{}); err == nil {
			t.Error("no error from a store that is away")
		}
	})
}

// all reads a list to its end.
func (r *rig) all(limit int) (n int) {
	for cursor := ""; ; {
		page, next, err := r.service.AllBindings(r.t.Context(), wake.Caller{}, cursor, limit)
		if err != nil {
			r.fatal("list: %v", err)
		}
		n += len(page)
		if next == "" {
			return n
		}
		cursor = next
	}
}

func TestAllBindings(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		for i := range 10 {
			r.quick(fmt.Sprintf("user%d@example.com", i), phone(fmt.Sprint(i)), "sip1")
		}
		for _, limit := range []int{0, 1, 3, 10, 5000} {
			if n := r.all(limit); n != 10 {
				t.Errorf("limit %d: %d bindings", limit, n)
			}
		}
		_, first, err := r.service.AllBindings(r.t.Context(), wake.Caller{}, "", 1)
		if err != nil || first == "" {
			t.Fatal(first, err)
		}
		for range 4 { // unfinished lists give way
			r.sleep(time.Second)
			if _, _, err := r.service.AllBindings(r.t.Context(), wake.Caller{}, "", 1); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := r.service.AllBindings(r.t.Context(), wake.Caller{}, first, 1); err == nil {
			t.Error("the oldest list is still open")
		}
		_, cursor, err := r.service.AllBindings(r.t.Context(), wake.Caller{}, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		r.sleep(2 * time.Minute)
		if _, _, err := r.service.AllBindings(r.t.Context(), wake.Caller{}, cursor, 1); err == nil {
			t.Error("a list is open for ever")
		}
		ended, cancel := context.WithCancel(r.t.Context())
		cancel()
		if page, next, err := r.service.AllBindings(ended, wake.Caller{}, "", 1000); err != nil || next == "" && len(page) < 10 {
			t.Errorf("a caller who left: %d, %q, %v", len(page), next, err)
		}
		r.store.set(func(m *memory) { m.err = wake.ErrUnavailable })
		if _, _, err := r.service.AllBindings(r.t.Context(), wake.Caller{}, "", 1); !errors.Is(err, wake.ErrUnavailable) {
			t.Errorf("a store that is away: %v", err)
		}
	})
}

func imported(device string, at time.Time) wake.Binding {
	return wake.Binding{AOR: bob, Device: device, CallID: "c", RegisteredAt: at,
		Address: pnparam.Address{Provider: pnparam.FCM, App: app, Tokens: []pnparam.Token{{Value: secret.NewToken("token-" + device)}}}}
}

func TestImport(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		now := time.Now()
		n, err := r.service.Import(r.t.Context(), []wake.Binding{imported("x", now), imported("y", now), imported("", now)})
		if n != 3 || err != nil {
			t.Errorf("stored %d, %v", n, err)
		}
		if n, err = r.service.Import(r.t.Context(), []wake.Binding{imported("x", now), imported("y", now.Add(time.Second))}); n != 1 || err != nil {
			t.Errorf("again: stored %d, %v", n, err)
		}
		if res := r.start("a"); res.Outcome != wake.OutcomePushing || res.Devices != 3 {
			t.Errorf("they do not sleep: %+v", res)
		}
		f := func(field string, change func(*wake.Binding)) {
			t.Helper()
			b := imported("z", now)
			change(&b)
			_, err := r.service.Import(r.t.Context(), []wake.Binding{imported("w", now), b})
			if bad := (*wake.ParamError)(nil); !errors.As(err, &bad) || bad.Field != "bindings[1]."+field {
				t.Errorf("%s: %v", field, err)
			}
		}
		f("aor", func(b *wake.Binding) { b.AOR = "" })
		f("provider", func(b *wake.Binding) { b.Address.Provider = "" })
		f("tokens", func(b *wake.Binding) { b.Address.Tokens = nil })
		f("tokens", func(b *wake.Binding) { b.Address.Tokens[0].Value = secret.Token{} })
		f("tokens", func(b *wake.Binding) { b.Address.Tokens[0].Value = secret.NewToken(strings.Repeat("t", 4097)) })
		f("app", func(b *wake.Binding) { b.Address.App = strings.Repeat("a", 256) })
		f("registered_at", func(b *wake.Binding) { b.RegisteredAt = time.Time{} })
		f("device", func(b *wake.Binding) { b.Device = strings.Repeat("x", 300) })
		f("call_id", func(b *wake.Binding) { b.CallID = "" })
		if len(r.bindings()) != 3 {
			t.Error("a part of a bad import was stored")
		}
		r.store.set(func(m *memory) { m.err = wake.ErrUnavailable })
		if _, err := r.service.Import(r.t.Context(), []wake.Binding{imported("v", now)}); !errors.Is(err, wake.ErrUnavailable) {
			t.Errorf("a store that is away: %v", err)
		}
	})
}

// refreshes runs the refresh loop for a while and returns the pushes.
func (r *rig) refreshes(d time.Duration) []string {
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	before := len(r.pusher.sent())
	r.service.Refresh(ctx)
	synctest.Wait()
	return r.pusher.sent()[before:]
}

func enable(c *wake.Config) { c.Refresh.Enabled = true }

func TestRefresh(t *testing.T) {
	inBubble(t, enable, func(r *rig) {
		r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 600})
		r.registerAs(wake.RegisterParams{Contact: onlyVoIP("2"), Expires: 600}) // cannot be pushed for it
		if got := r.refreshes(5 * time.Minute); len(got) != 0 {
			t.Errorf("too early: %q", got)
		}
		if got := r.refreshes(10 * time.Minute); len(got) != 1 || got[0] != "refresh token-1" {
			t.Errorf("refreshed are %q", got)
		}
		r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 600})
		if got := r.refreshes(12 * time.Minute); len(got) != 1 {
			t.Errorf("the next registration: %q", got)
		}
		r.store.set(func(m *memory) { m.err = wake.ErrUnavailable })
		r.refreshes(time.Minute)
		if !strings.Contains(r.log.String(), "cannot look through the bindings") {
			t.Error("the log does not say that the store is away")
		}
	})
	inBubble(t, nil, func(r *rig) {
		r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 600})
		if got := r.refreshes(time.Hour); len(got) != 0 {
			t.Errorf("it is switched off: %q", got)
		}
	})
}

// A registration that ends though its phone was pushed counts, once.
func TestRefreshUnanswered(t *testing.T) {
	inBubble(t, func(c *wake.Config) { enable(c); c.Remove.RefreshUnanswered = 2 }, func(r *rig) {
		r.pusher.policy.Unregister = push.UnregisterKeep
		for i := range 3 {
			// The phone cannot say so itself, or the row would end.
			r.store.set(func(m *memory) {
				if b, ok := m.entry(bob).bindings[instance("1")]; ok {
					b.ExpiresAt = time.Now().Add(10 * time.Minute)
					m.entry(bob).bindings[instance("1")] = b
				}
			})
			if i == 0 {
				r.registerAs(wake.RegisterParams{Contact: phone("1"), Expires: 600})
			}
			r.refreshes(15 * time.Minute)
			if i == 0 {
				r.wantBindings("1")
			}
		}
		r.wantBindings()
	})
}

// The load follows the store's latency, for as long as anything is asked.
func TestLoadFollowsStore(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.store.set(func(m *memory) { m.takes = 300 * time.Millisecond })
		for i := range 40 {
			r.start(fmt.Sprint(i))
		}
		if level, _ := r.service.Load(); level != 4 {
			t.Errorf("level %d with a slow store", level)
		}
		if r.metric("sipwake_load_level") != 4 {
			t.Error("the metric is another")
		}
		r.sleep(3 * time.Second)
		if level, _ := r.service.Load(); level != 0 {
			t.Errorf("level %d when nothing is asked", level)
		}
	})
}

func TestConfigValidate(t *testing.T) {
	bad := func(field string, change func(*wake.Config)) {
		t.Helper()
		var c wake.Config
		change(&c)
		c.SetDefaults()
		var got []string
		c.Validate(func(f, problem string) { got = append(got, f+" "+problem) })
		if len(got) != 1 || !strings.HasPrefix(got[0], field+" ") {
			t.Errorf("%s: problems are %q", field, got)
		}
	}
	minus := -1
	bad("max_hold", func(c *wake.Config) { c.MaxHold = time.Hour })
	bad("recent", func(c *wake.Config) { c.Recent = time.Hour })
	bad("linger", func(c *wake.Config) { c.Linger = time.Hour })
	bad("push_delay", func(c *wake.Config) { c.PushDelay = time.Hour })
	bad("send_ttl", func(c *wake.Config) { c.SendTTL = time.Millisecond })
	bad("min_expires", func(c *wake.Config) { c.MinExpires = -1 })
	bad("refresh.before", func(c *wake.Config) { c.Refresh.Before = time.Second })
	bad("refresh.spread", func(c *wake.Config) { c.Refresh.Spread = -1 })
	bad("refresh.every", func(c *wake.Config) { c.Refresh.Every = time.Hour })
	bad("remove.failed", func(c *wake.Config) { c.Remove.Failed = -1 })
	bad("limits.pair", func(c *wake.Config) { c.Limits.Pair = &minus })
	bad("signals_per_node", func(c *wake.Config) { c.SignalsPerNode = -1 })
	bad("traces", func(c *wake.Config) { c.Traces = -1 })
}

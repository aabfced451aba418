package wake_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/wake"
)

// withPURRs has PURRs made with a key of its own.
func withPURRs(t *testing.T, key string) func(*wake.Config) {
	return func(c *wake.Config) {
		c.PURRKeyFile = filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(c.PURRKeyFile, []byte(strings.Repeat(key, 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.Read(); err != nil {
			t.Fatal(err)
		}
	}
}

var pnspurr = regexp.MustCompile(`^\*;\+sip\.pns="[a-z]+";\+sip\.pnspurr="([-A-Za-z0-9_]{64,420})"$`)

// purr is the one that a REGISTER with the Contact is told.
func (r *rig) purr(contact string) string {
	r.t.Helper()
	caps := r.register(contact).FeatureCaps
	if len(caps) != 1 || !pnspurr.MatchString(caps[0]) {
		r.fatal("Feature-Caps: %q", caps)
	}
	return pnspurr.FindStringSubmatch(caps[0])[1]
}

func (r *rig) startPURR(call, purr string) wake.StartResult {
	return r.start(call, inDialog(func(p *wake.StartParams) { p.AOR, p.PURR = "", purr }))
}

// A PURR finds its device, for weeks, and says nothing: not who, not which token, not even
// which two are of one user.
func TestPURR(t *testing.T) {
	inBubble(t, withPURRs(t, "k"), func(r *rig) {
		one, two := r.purr(phone("1")), r.purr(phone("2"))
		if one == two || r.purr(phone("1")) != one {
			t.Errorf("PURRs %q and %q", one, two)
		}
		same := 0
		for i := range one {
			if one[i] == two[i] {
				same++
			}
		}
		if same > len(one)/4 || strings.Contains(one, "token") {
			t.Errorf("PURRs %q and %q have %d characters in common", one, two, same)
		}
		r.sleep(8 * 24 * time.Hour)
		r.asleep(phone("1"), phone("2"))
		if r.purr(phone("1")) == one {
			t.Error("it is never renewed")
		}
		r.sleep(r.config.Recent + time.Second)
		res := r.startPURR("a", one)
		wantOutcome(r, res, wake.OutcomePushing, 1)
		if res.AOR != bob {
			t.Errorf("the PURR is that of %q", res.AOR)
		}
		r.wantPushes("refresh token-1")
		r.sleep(27 * 7 * 24 * time.Hour)
		r.asleep(phone("1"))
		wantOutcome(r, r.startPURR("b", one), wake.OutcomeNone, 0)
	})
}

// What is no PURR of ours wakes nobody, and is no error.
func TestPURRForged(t *testing.T) {
	var foreign string
	inBubble(t, withPURRs(t, "f"), func(r *rig) { foreign = r.purr(phone("1")) })
	inBubble(t, withPURRs(t, "k"), func(r *rig) {
		r.asleep(phone("1"))
		one := r.purr(phone("1"))
		wantOutcome(r, r.startPURR("known", one), wake.OutcomePushing, 1) // a moment after its REGISTER
		r.end("known", wake.EndTimeout)
		for i, purr := range []string{foreign, one[1:], one + "A", "A" + one[1:], one[:20], "%", strings.Repeat("A", 10_000)} {
			wantOutcome(r, r.startPURR(string(rune('a'+i)), purr), wake.OutcomeNone, 0)
		}
		r.wantPushes("refresh token-1")
	})
}

// A call to the Contact of a device pushes that device alone, if it is the user's. A PURR that
// says nothing of the user changes nothing.
func TestPURROfCall(t *testing.T) {
	inBubble(t, withPURRs(t, "k"), func(r *rig) {
		r.asleep(phone("1"), phone("2"))
		one := r.purr(phone("1"))
		r.sleep(r.config.Recent + time.Second)
		to := func(purr string) func(*wake.StartParams) { return func(p *wake.StartParams) { p.PURR = purr } }
		wantOutcome(r, r.start("one", to(one)), wake.OutcomePushing, 1)
		wantOutcome(r, r.start("made up", to("AAAA")), wake.OutcomePushing, 2)
		wantOutcome(r, r.start("another's", to(one), func(p *wake.StartParams) { p.AOR = alice }), wake.OutcomeNone, 0)
	})
}

// Without a key nobody is told, and nobody found.
func TestPURROff(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		if caps := r.register(phone("1")).FeatureCaps; len(caps) != 1 || strings.Contains(caps[0], "purr") {
			t.Errorf("Feature-Caps: %q", caps)
		}
		wantOutcome(r, r.startPURR("a", "AAAA"), wake.OutcomeNone, 0)
	})
}

func TestPURRKeyFile(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{short: "at least 32 characters", short + "-not": "no such file"} {
		c := wake.Config{PURRKeyFile: file}
		if err := c.Read(); err == nil || !strings.HasPrefix(err.Error(), "purr_key_file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}

package tests

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/kamailio/cfg"
)

// What any proxy does, on a real Kamailio.

func TestKamailioCalls(t *testing.T) {
	t.Parallel()
	callTable().run(t, kamailio())
}

func TestKamailioRegistrations(t *testing.T) {
	t.Parallel()
	registrationTable().run(t, kamailio())
}

func TestKamailioAsksFirst(t *testing.T) {
	t.Parallel()
	askFirstTable().run(t, kamailio())
}

func TestKamailioHoldTime(t *testing.T) {
	t.Parallel()
	holdTimeTable().run(t, kamailio())
}

func TestKamailioMessages(t *testing.T) {
	t.Parallel()
	messageTable().run(t, kamailio())
}

func TestKamailioHostile(t *testing.T) { hostile(t, kamailio()) }
func TestKamailioRaces(t *testing.T)   { races(t, kamailio()) }
func TestKamailioSurvivesRestart(t *testing.T) {
	t.Parallel()
	survivesRestart(t, kamailio())
}

func kamailio() proxyKind {
	find := func() error { _, err := stack.Find("kamailio"); return err }
	return proxyKind{name: "Kamailio", find: find, required: "SIPWAKE_REQUIRE_ALL", node: "kamailio", start: startKamailio,
		quiet: true, cannot: map[string]string{
			"to the letter: the registration has run out": "its registrar grants a minute at least; see TestStartStrict in wake",
		}}
}

// kamailioWith is a Kamailio with the project's kamailio.cfg, in which place is replaced.
func kamailioWith(t *testing.T, place, replacement string) proxyKind {
	t.Helper()
	text, err := cfg.Files.ReadFile("kamailio.cfg")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), place); n != 1 {
		t.Fatalf("%q is in the script %d times", place, n)
	}
	kind := kamailio()
	kind.start = func(ctx context.Context, c proxyConfig) (proxy, error) {
		return startKamailioScript(ctx, c, strings.Replace(string(text), place, replacement, 1))
	}
	return kind
}

func startKamailio(ctx context.Context, c proxyConfig) (proxy, error) {
	return startKamailioScript(ctx, c, "")
}

func startKamailioScript(ctx context.Context, c proxyConfig, script string) (proxy, error) {
	k, err := stack.StartKamailio(ctx, stack.KamailioConfig{
		Node: nodeID, Secret: nodeSecret, URL: c.URL, Hold: c.Hold, ChatHold: c.ChatHold, Defines: kamailioDefines(c), Script: script,
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}

// kamailioDefines returns the settings of the script.
func kamailioDefines(c proxyConfig) map[string]string {
	defines := map[string]string{"SIPWAKE_AWAKE_S": strconv.Itoa(int(c.Awake / time.Second))}
	for name, d := range map[string]time.Duration{"SIPWAKE_FR_MS": c.Silence, "SIPWAKE_RPC_MS": c.SipwakeTimeout, "SIPWAKE_ASK_MS": c.SipwakeTimeout} {
		if d != 0 {
			defines[name] = strconv.FormatInt(d.Milliseconds(), 10)
		}
	}
	for name, text := range map[string]string{"SIPWAKE_HEADERS": c.Headers, "SIPWAKE_METHODS": c.Methods} {
		if text != "" {
			defines[name] = stack.Quote(text)
		}
	}
	for name, on := range map[string]bool{
		"SIPWAKE_STRICT": c.Strict, "SIPWAKE_ANSWER_FIRST": c.AnswerFirst || c.Refuse555, "SIPWAKE_555": c.Refuse555, "SIPWAKE_DOWN_480": c.Down480,
		"SIPWAKE_PUSH_ID": c.PushID,
	} {
		if on {
			defines[name] = ""
		}
	}
	return defines
}

package trace

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
)

// told makes a timeline of lines such as "1900 accepted one apns": milliseconds, the
// event with _ for a space, the device or -, the detail.
func told(outcome, reason string, lines ...string) *Timeline {
	t := &Timeline{Head: Head{ID: "a", AOR: "bob@example.com", Node: "sip1", Kind: "call", StartedAt: start}, Outcome: outcome, Reason: reason}
	for _, line := range lines {
		f := strings.SplitN(line, " ", 4)
		ms, err := strconv.Atoi(f[0])
		if err != nil {
			panic(err)
		}
		e := Event{At: start.Add(time.Duration(ms) * time.Millisecond), Name: EventName(strings.ReplaceAll(f[1], "_", " "))}
		if e.Device = f[2]; e.Device == "-" {
			e.Device = ""
		}
		if len(f) == 4 {
			e.Detail = f[3]
		}
		if service, rest, ok := strings.Cut(e.Detail, "|"); ok {
			e.Provider, e.Detail = service, rest
		}
		t.Events = append(t.Events, e)
	}
	return t
}

func TestVerdict(t *testing.T) {
	const held = "0 held - sip1"
	for _, c := range []struct {
		t    *Timeline
		want string
	}{
		// It rang.
		{told("pushing", "answered", held, "1 pushing one apns", "48 accepted one apns", "1850 registered one tls:192.0.2.1:5", "1900 signalled one added", "9000 ended - answered"),
			"rang after 1.9 s, answered after 9 s"},
		{told("pushing", "answered", held, "1 pushing one apns", "1 pushing two apns", "48 accepted one apns", "50 accepted two apns", "1850 registered one x", "1900 signalled one added", "9000 ended - answered"),
			"rang after 1.9 s on 1 of 2 devices, answered after 9 s; the other: Apple took the push, the phone never registered"},
		{told("pushing", "", held, "1 pushing one apns", "1 pushing two fcm", "48 accepted one apns", "1850 registered one x", "1900 signalled one added"),
			"rang after 1.9 s on 1 of 2 devices; the other: waiting for Google"},
		{told("pushing", "timeout", held, "1 pushing one apns", "1 pushing two fcm", "1 pushing three fcm", "70 failed two fcm|token_dead: UNREGISTERED", "80 failed three fcm|token_dead: UNREGISTERED", "1850 registered one x", "1900 signalled one added", "61000 ended - timeout"),
			"rang after 1.9 s on 1 of 3 devices, nobody answered within 1 min 1 s; the others: Google refused the token: it is gone (UNREGISTERED) (2 devices)"},
		{told("awake", "answered", held, "-1034 awake one tls:192.0.2.1:5", "0 withheld one 1s", "1 signalled one dup", "120 answering one", "5000 ended - answered"),
			"rang at once, answered after 5 s"},
		{told("awake", "declined", held, "0 withheld one 1s", "120 answering one", "5000 ended - declined"), "rang at once, declined after 5 s"},
		{told("pushing", "failed", held, "1 pushing one apns", "1850 registered one x", "1900 signalled one added", "3000 ended - failed"),
			"rang after 1.9 s, the call failed after 3 s"},

		// Nobody was to be woken.
		{told("none", "", held), "nobody to wake: no binding"},
		{told("none", "", held, "0 one_device - urn:uuid:1"), "nobody to wake: the call is for one device, and it has no binding"},
		{told("none", "", held, "1 failed one apns|no_token"), "nobody could be woken: not pushed: the phone has no token for this kind of push"},
		{told("none", "", held, "1 failed one apns|denied"), "nobody could be woken: not pushed: the user or the app's policy forbids it"},
		{told("shed", "", "0 limited - caller 120"), "not pushed: the caller exceeded the limit of 120 calls a minute"},
		{told("shed", "", "0 limited - pair 20"), "not pushed: the caller exceeded the limit of 20 calls a minute to this user"},
		{told("shed", "", "0 limited - aor 60"), "not pushed: this user exceeded the limit of 60 calls a minute"},
		{told("shed", "", "0 limited - aor"), "not pushed: this user exceeded the limit"},
		{told("shed", ""), "not pushed: sipwake was overloaded"},
		{told("shed", "", held, "1 failed one apns|queue_full"), "not pushed: too many pushes wait for Apple"},
		{told("", "", "0 store_away -"), "not pushed: the store was away, and this sipwake does not know the user's phones"},
		// The store took it all the same, or some other phone rang.
		{told("", "", "0 store_away -", "900 adopted - x", "901 pushing one apns", "950 accepted one apns", "1850 registered one x", "1900 signalled one added"),
			"rang after 1.9 s"},
		{told("awake", "answered", held, "0 withheld one 1s", "120 answering one", "500 limited - pair 20", "5000 ended - answered"), "rang at once, answered after 5 s"},
		{told("duplicate", "", held, "0 forked one"), "pushed by another branch of the same call"},

		// It was pushed, and did not ring.
		{told("pushing", "timeout", held, "1 pushing one apns", "48 accepted one apns", "30000 hold_over -", "30012 ended - timeout"),
			"Apple took the push, the phone never registered; nobody answered within 30 s"},
		{told("pushing", "timeout", held, "1 pushing one webpush", "48 accepted one webpush", "30012 ended - timeout"),
			"the Web Push service took the push, the phone never registered; nobody answered within 30 s"},
		{told("pushing", "timeout", held, "1 pushing one mine", "48 accepted one mine", "30012 ended - timeout"),
			"your webhook mine took the push, the phone never registered; nobody answered within 30 s"},
		{told("pushing", "", held, "1 pushing one apns", "48 accepted one apns"), "Apple took the push after 48 ms, the phone has not registered yet"},
		{told("pushing", "", held, "1 pushing one apns", "48 accepted one apns", "30000 hold_over -"), "Apple took the push, the phone never registered; the hold time is over"},
		{told("pushing", "cancelled", held, "1 pushing one apns", "410 failed one apns|dropped", "410 ended - cancelled"), "cancelled by the caller after 0.4 s, before the push was accepted"},
		{told("pushing", "cancelled", held, "1 pushing one apns", "410 ended - cancelled"), "cancelled by the caller after 0.4 s, before the push was accepted"},
		{told("pushing", "cancelled", held, "1 pushing one apns", "410 ended - cancelled", "480 accepted one apns"), "cancelled by the caller after 0.4 s, before the push was accepted"},
		{told("pushing", "cancelled", held, "1 pushing one apns", "48 accepted one apns", "12000 ended - cancelled"),
			"Apple took the push, the phone never registered; cancelled by the caller after 12 s"},
		{told("pushing", "", held, "1 pushing one fcm", "70 failed one fcm|token_dead: UNREGISTERED", "80 gave_up - ok"),
			"Google refused the token: it is gone (UNREGISTERED); the proxy was told to stop waiting"},
		{told("pushing", "failed", held, "1 pushing one apns", "70 failed one apns|token_bad: BadDeviceToken", "80 gave_up - ok", "90 ended - failed"),
			"Apple refused the token: it may be for another app or environment (BadDeviceToken); the call failed after 90 ms"},
		{told("pushing", "timeout", held, "1 pushing one apns", "70 failed one apns|credential: InvalidProviderToken", "90 ended - timeout"),
			"Apple refused sipwake's own key or certificate (InvalidProviderToken); nobody answered within 90 ms"},
		{told("pushing", "timeout", held, "1 pushing one apns", "2000 failed one apns|breaker_open", "2100 ended - timeout"),
			"not pushed: Apple keeps failing; sipwake tries it again later; nobody answered within 2.1 s"},
		{told("pushing", "timeout", held, "1 pushing one apns", "30000 ended - timeout"), "Apple did not answer in time; nobody answered within 30 s"},

		// It came back, and the proxy was not told or had nothing for it.
		{told("pushing", "timeout", held, "1 pushing one apns", "48 accepted one apns", "1850 registered one x", "30000 unsignalled one sip1: dial tcp 192.0.2.9:5060: connect: connection refused", "30012 ended - timeout"),
			"sipwake could not reach node sip1: connection refused; nobody answered within 30 s"},
		{told("pushing", "", held, "1 pushing one apns", "48 accepted one apns", "1850 registered one x", "30000 unsignalled one sip1: context deadline exceeded"),
			"sipwake could not reach node sip1: no answer in time"},
		{told("pushing", "cancelled", held, "1 pushing one apns", "48 accepted one apns", "3200 registered one x", "3210 signalled one gone", "3000 ended - cancelled"),
			"the phone registered after 3.2 s, when the call was over; cancelled by the caller after 3 s"},
		{told("pushing", "timeout", held, "1 pushing one apns", "3200 registered one x", "3210 signalled one unsent", "30000 ended - timeout"),
			"the phone registered after 3.2 s, but the proxy could not reach it; nobody answered within 30 s"},
		{told("pushing", "", held, "1 pushing one apns", "3200 registered one x"), "the phone registered after 3.2 s, but the proxy has not rung it"},

		// Parts of a story.
		{told("", ""), "held, nothing has happened yet"},
		{told("", "answered", "9000 ended - answered"), "answered after 9 s"},
		{told("", "answered", "100 registered one x", "150 signalled one added", "9000 ended - answered"), "rang after 0.1 s, answered after 9 s"},
	} {
		if got := Verdict(c.t); got != c.want {
			t.Errorf("%v\n got %s\nwant %s", c.t.Events, got, c.want)
		}
	}
}

// A push that tells of the end of a call is not one that was to wake a phone.
func TestVerdictIgnoresCancelPush(t *testing.T) {
	c := told("pushing", "cancelled", "0 held - sip1", "1 pushing one apns", "48 failed one apns|token_bad: BadDeviceToken", "12000 pushing one cancel", "12040 accepted one cancel", "12000 ended - cancelled")
	c.Events[3].Kind, c.Events[4].Kind = "cancel", "cancel"
	if got, want := Verdict(c), "Apple refused the token: it may be for another app or environment (BadDeviceToken); cancelled by the caller after 12 s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Whatever the events, there is one line that can be printed.
func TestVerdictAlways(t *testing.T) {
	names := []EventName{Held, Cached, Awake, Limited, Unread, StoreAway, Forked, Withheld, Answering, Pushing, Accepted, Failed, Registered, Signalled, Lost, GaveUp, HoldOver, Adopted, Ended, "new"}
	random := rand.New(rand.NewPCG(3, 4))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	for range 20_000 {
		l := NewLog(1)
		l.Begin(head("a"))
		l.SetOutcome("a", one("pushing", "awake", "none", "shed", "duplicate", "", "new"))
		l.SetReason("a", one("answered", "cancelled", "timeout", "busy", "declined", "failed", "", "", "new"))
		for range random.IntN(9) {
			l.Add("a", Event{At: start.Add(time.Duration(random.IntN(100_000)-2000) * time.Millisecond), Name: names[random.IntN(len(names))],
				Device: one("", "a", "b"), Provider: one("", "apns", "x"), Kind: one("", "", "cancel"),
				Detail: one("", "added", "dup", "gone", "unsent", "token_dead: x", "sip1: a: b", "pair 20", "\x1b[31m\n", strings.Repeat("ü", 400))})
		}
		made, _ := l.get("a")
		got := Verdict(&made)
		if got == "" || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(got, "  ") && !strings.Contains(fmt.Sprint(made.Events), "[31m") {
			t.Fatalf("%q of %+v", got, made)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0 ms", 99 * time.Millisecond: "99 ms", 100 * time.Millisecond: "0.1 s", 1949 * time.Millisecond: "1.9 s",
		2 * time.Second: "2 s", 59949 * time.Millisecond: "59.9 s", 59951 * time.Millisecond: "1 min", 65 * time.Second: "1 min 5 s", time.Hour: "60 min"} {
		if got := Span(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

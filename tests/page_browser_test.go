package tests

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// browser is a Chromium, with the errors that it reported.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu         sync.Mutex
	complaints []string
}

func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path, err := stack.FindChromium()
	// Only root can have make setup install it.
	if errors.Is(err, stack.ErrMissing) && (os.Getenv("SIPWAKE_REQUIRE_ALL") == "" || os.Getuid() != 0) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(time.Minute)}
	for _, f := range stack.ChromiumFlags() {
		opts = append(opts, chromedp.Flag(f, true))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	ctx, end := chromedp.NewExecAllocator(ctx, opts...)
	ctx, quit := chromedp.NewContext(ctx)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx); quit(); end(); cancel() })
	b := &browser{t: t, ctx: ctx, base: base}
	if err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded: // violations of the policy among them
			b.complain(string(e.Entry.Level) + ": " + e.Entry.Text + " " + e.Entry.URL)
		case *runtime.EventExceptionThrown:
			b.complain(e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			b.complain("console: " + string(e.Type))
		}
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

// quiet fails the test if the browser has complained.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		b.t.Errorf("the browser complains: %s", strings.Join(b.complaints, "\n"))
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) open(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.base + path)) }

func (b *browser) text() string { b.t.Helper(); return got(b, chromedp.Text(chromedp.CSS("body"))) }

// got returns the value of an action.
func got[T any](b *browser, a chromedp.Action[T]) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, a)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// scripts switches JavaScript on or off.
func (b *browser) scripts(on bool) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on}); err != nil {
		b.t.Fatal(err)
	}
}

// scheme makes the browser prefer "dark" or "light".
func (b *browser) scheme(name string) {
	b.t.Helper()
	want := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: want}); err != nil {
		b.t.Fatal(err)
	}
}

// browsed starts a sipwake that has woken bob's phone, and a browser.
func browsed(t *testing.T) (*rig, *browser) {
	t.Helper()
	r := newRig(t, rigOptions{})
	r.asleep("bob@example.com", fcmContact("bob", "fcm-token-bob-1"))
	r.startWake("bob@example.com", "1-1", nil)
	eventually(t, "the call is told", func() bool { return strings.Contains(r.timeline(t, "1-1"), "{accepted ") })
	return r, newBrowser(t, "http://"+r.app.OperationsAddr())
}

// findCall searches for a user and opens the call.
func (b *browser) findCall() {
	b.t.Helper()
	b.open("/")
	b.do(chromedp.SendKeys(chromedp.CSS("header input"), "bob\r"),
		chromedp.WaitVisible(chromedp.CSS("main .calls .verdict")),
		chromedp.WaitVisible(chromedp.CSS(".fields")),
		chromedp.Click(chromedp.CSS("main .calls .verdict")),
		chromedp.WaitVisible(chromedp.CSS(".ladder")))
	for _, want := range []string{"google took the push", "held", "accepted", "push service", "phone"} {
		if text := b.text(); !strings.Contains(strings.ToLower(text), want) {
			b.t.Errorf("the call's page has no %q: %s", want, text)
		}
	}
}

// In a browser: a search leads to a call and its verdict, with and without
// JavaScript, and the browser has nothing to complain of.
func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	_, b := browsed(t)
	t.Run("with JavaScript", func(t *testing.T) { b.t = t; b.findCall(); b.quiet() })
	t.Run("without JavaScript", func(t *testing.T) {
		b.t = t
		b.scripts(false)
		b.findCall()
		b.open("/?live")
		if text := b.text(); !strings.Contains(text, "Stop the live update") {
			t.Errorf("no live update without JavaScript: %s", text)
		}
		b.scripts(true)
		b.quiet()
	})
}

// A call that comes while the overview is open appears there by itself.
func TestPageIsLive(t *testing.T) {
	t.Parallel()
	r, b := browsed(t)
	b.open("/")
	r.asleep("carol@example.com", fcmContact("carol", "fcm-token-carol-1"))
	r.startWake("carol@example.com", "2-1", nil)
	eventually(t, "carol's call is on the page", func() bool { return strings.Contains(b.text(), "carol@example.com") })
	b.quiet()
}

// Every page fits a phone's screen and has a dark and a light look, in which text can
// be told from its background.
func TestPageOnAPhone(t *testing.T) {
	t.Parallel()
	_, b := browsed(t)
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	pages := []string{"/", "/search?q=bob", "/call?call_id=call-1-1", "/user?aor=bob@example.com"}
	for _, path := range pages {
		b.open(path)
		if wide := got(b, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); wide > 390 {
			t.Errorf("%s is %d wide", path, wide)
		}
	}
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		b.open(pages[0])
		grounds[scheme] = got(b, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
		if ink := got(b, chromedp.Evaluate[string](`getComputedStyle(document.body).color`)); ink == grounds[scheme] {
			t.Errorf("%s: text and background are %s", scheme, ink)
		}
	}
	if grounds["light"] == grounds["dark"] {
		t.Errorf("dark and light are both %s", grounds["dark"])
	}
	b.quiet()
}

package demo

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// Screenshots takes pictures of the pages that show the calls of the lab.
type Screenshots struct {
	Sipwake string
	Proxy   string
	Store   string
	Dir     string
	Rounds  int
	Pause   time.Duration
}

const screenshotsTimeout = 5 * time.Minute

// shot is one picture.
type shot struct {
	name, path    string
	width, height int64
	dark          bool
}

// Run makes the calls of the lab and takes pictures of the pages that show them.
func (c *Screenshots) Run(ctx context.Context) error {
	kind, err := proxyNamed(c.Proxy)
	if err != nil {
		return err
	}
	program, err := stack.FindChromium()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, screenshotsTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "sipwake-screenshots-")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	l := &lab{stage: &stage{dir: dir, sipwake: c.Sipwake, store: c.Store, kind: kind, quiet: true, bundles: []string{otherBundle}},
		program: c.Sipwake}
	defer l.stop()
	if err := l.start(ctx, 0); err != nil {
		return err
	}
	for range c.Rounds {
		l.demoCalls(ctx)
		if err := pause(ctx, c.Pause); err != nil {
			return err
		}
	}
	// A call that is still held: theo's phone takes the push and never registers.
	held, err := l.dial(ctx, demoCaller, "theo")
	if err != nil {
		return err
	}
	if err := l.waitForPush(ctx, map[string]string{"call_id": held.CallID()}); err != nil {
		return err
	}
	answered := ""
	for _, call := range l.calls.last() { // the first call, to ivan, who slept
		if call.to == "ivan" && answered == "" {
			answered = call.CallID()
		}
	}
	call := "/call?call_id=" + url.QueryEscape(answered)
	return c.take(ctx, program, dir, "http://"+l.operations, []shot{
		{"overview.png", "/", 1100, 1280, false},
		{"overview-dark.png", "/", 1100, 1280, true},
		{"overview-phone.png", "/", 390, 844, false},
		{"call.png", call, 1100, 620, false},
		{"call-phone.png", call, 390, 844, true},
		{"search.png", "/search?q=theo", 1100, 620, false},
		{"user.png", "/user?aor=ivan@" + demoDomain, 1100, 620, false},
	})
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Screenshots) take(ctx context.Context, program, dir, base string, shots []shot) error {
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program), chromedp.UserDataDir(filepath.Join(dir, "chromium"))}
	for _, f := range stack.ChromiumFlags() {
		opts = append(opts, chromedp.Flag(f, true))
	}
	ctx, end := chromedp.NewExecAllocator(ctx, opts...)
	defer end()
	ctx, quit := chromedp.NewContext(ctx)
	defer quit()
	for _, s := range shots {
		if err := c.takeOne(ctx, base, s); err != nil {
			return fmt.Errorf("cannot make %s: %w", s.name, err)
		}
		fmt.Println("screenshots:", filepath.Join(c.Dir, s.name))
	}
	return nil
}

func (c *Screenshots) takeOne(ctx context.Context, base string, s shot) error {
	scheme := "light"
	if s.dark {
		scheme = "dark"
	}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
		return err
	}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(s.width, s.height), chromedp.Navigate(base+s.path)); err != nil {
		return err
	}
	// Do not show the name of this machine.
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(
		`document.querySelector("main").innerHTML = document.querySelector("main").innerHTML.replaceAll(%q, "host1")`, host))); err != nil {
		return err
	}
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Dir, s.name), png, 0o644)
}

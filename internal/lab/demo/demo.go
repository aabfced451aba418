// Package demo runs an installation: a real SIP proxy, sipwake, simulated push services and
// phones. It makes calls through it and shows what happened: once (Demo), on request (Up),
// in a loop (Watch), or with clients of other makers (Interop).
package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/phone"
)

// Demo makes calls through a real SIP proxy to sleeping phones, and prints what happens.
type Demo struct {
	Sipwake string
	Proxy   string
	PBX     string
	Store   string
}

// demoTimeout bounds the whole demonstration.
const demoTimeout = 2 * time.Minute

// Run starts everything, makes the calls, prints their timelines and stops
// everything. It fails unless each call went as expected.
func (c *Demo) Run(ctx context.Context) error {
	kind, err := proxyNamed(c.Proxy)
	if c.PBX != "" {
		kind, err = inFrontOf(c.PBX)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "sipwake-demo-")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	s := &stage{dir: dir, sipwake: c.Sipwake, store: c.Store, kind: kind}
	defer s.stop()
	if err := s.start(ctx); err != nil {
		return err
	}
	fmt.Printf("demo: %s, sipwake (%s store), simulated APNs and FCM are up\n", kind.title, c.Store)
	failed := 0
	for i, sc := range scenes() {
		fmt.Printf("\n%d. %s\n", i+1, sc.title)
		if err := s.play(ctx, sc); err != nil {
			failed++
			fmt.Printf("   FAILED: %v\n", err)
			s.printLogs()
		} else {
			fmt.Printf("   as expected: %s\n", sc.expected)
		}
	}
	n := len(scenes())
	fmt.Printf("\ndemo: %d calls, %d as expected, %d failed\n", n, n-failed, failed)
	if failed > 0 {
		return errors.New("the demo failed")
	}
	return nil
}

// scene is one call of the demo.
type scene struct {
	title    string
	expected string
	user     string
	params   string // push parameters of the Contact, with TOKEN for the token
	header   string // header of the REGISTER, with TOKEN too
	token    string
	awake    bool                                     // the phone does not sleep
	prepare  func(*stage, *scene)                     // sets the push service's behaviour
	phone    phone.Config                             // the rest of its settings
	act      func(context.Context, *phone.Call) error // what the caller does instead of waiting
	code     int                                      // final answer to the caller
	pushes   int                                      // number of pushes
	invites  int                                      // number of INVITEs to the phone
	late     bool                                     // the phone comes back after the call, and is told that it is over
	unbound  bool                                     // its binding is removed
}

// play makes one call and prints its timeline.
func (s *stage) play(ctx context.Context, sc scene) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if sc.prepare != nil {
		sc.prepare(s, &sc)
	}
	callee, err := s.newPhone(ctx, &sc)
	if err != nil {
		return err
	}
	defer callee.Close()
	caller, err := phone.New(phone.Config{User: demoCaller, Domain: demoDomain, Proxy: s.proxy.SIPAddress(), Password: demoPassword(demoCaller)})
	if err != nil {
		return err
	}
	defer caller.Close()
	mark := callee.Mark()
	began := time.Now()
	call, err := caller.Invite(ctx, sc.user, phone.InviteOptions{Display: []byte(`"Alice"`)})
	if err != nil {
		return err
	}
	final, err := s.finish(ctx, &sc, call)
	switch {
	case err == nil && sc.late:
		_, err = callee.WaitFrom(ctx, mark, func(e phone.Event) bool { return e.Kind == phone.Terminated })
	case err == nil && sc.invites > 0:
		if _, err = call.Bye(ctx); err == nil {
			_, err = callee.WaitFrom(ctx, mark, func(e phone.Event) bool { return e.Kind == phone.GotBye })
		}
	}
	trace, traceErr := s.ended(ctx, s.which(sc.user, call))
	if !s.quiet {
		printTimeline(began, sc.user, caller.Events(), callee.Events(), trace)
	}
	if err := errors.Join(err, traceErr); err != nil {
		return err
	}
	if err := s.judge(&sc, final, callee); err != nil {
		return err
	}
	if sc.unbound {
		return s.unbound(ctx, sc.user)
	}
	return nil
}

// finish waits until the call can end, lets the caller act, and returns the
// final answer.
func (s *stage) finish(ctx context.Context, sc *scene, call *phone.Call) (phone.Result, error) {
	if sc.act != nil {
		if err := s.waitForPush(ctx, s.which(sc.user, call)); err != nil {
			return phone.Result{}, err
		}
		if err := sc.act(ctx, call); err != nil {
			return phone.Result{}, err
		}
	}
	return call.Final(ctx)
}

func (s *stage) judge(sc *scene, final phone.Result, callee *phone.Phone) error {
	if final.Code != sc.code {
		return fmt.Errorf("the caller got %d, not %d", final.Code, sc.code)
	}
	if n := len(callee.Requests("INVITE")); n != sc.invites {
		return fmt.Errorf("the phone got %d INVITEs, not %d", n, sc.invites)
	}
	if n := s.pushes(sc.token); n != sc.pushes {
		return fmt.Errorf("%d pushes, not %d", n, sc.pushes)
	}
	return nil
}

// newPhone registers the callee's phone. Unless it is awake, it then falls asleep: it ends
// its registration and closes its socket, and only a push wakes it.
func (s *stage) newPhone(ctx context.Context, sc *scene) (*phone.Phone, error) {
	cfg := sc.phone
	cfg.User, cfg.Domain, cfg.Proxy = sc.user, demoDomain, s.proxy.SIPAddress()
	cfg.Password = demoPassword(sc.user)
	cfg.ContactParams = strings.ReplaceAll(sc.params, "TOKEN", sc.token)
	if sc.header != "" {
		name, value, _ := strings.Cut(strings.ReplaceAll(sc.header, "TOKEN", sc.token), ": ")
		cfg.Headers = map[string]string{name: value}
	}
	p, err := phone.New(cfg)
	if err != nil {
		return nil, err
	}
	s.services.APNs.OnDeliver(sc.token, func(payload []byte, _ http.Header) { p.OnPush(payload) })
	s.services.FCM.OnDeliver(sc.token, func(*fcmsim.Message) { p.OnPush(nil) })
	if err := registerOK(ctx, p, time.Hour); err != nil {
		return p, err
	}
	if !sc.awake {
		// The proxy reports each REGISTER separately, and reports may overtake each other.
		if err := s.bound(ctx, sc.user, true); err != nil {
			return p, err
		}
		if err := registerOK(ctx, p, 0); err != nil {
			return p, err
		}
		p.Sleep()
	}
	return p, s.bound(ctx, sc.user, sc.awake)
}

func registerOK(ctx context.Context, p *phone.Phone, expires time.Duration) error {
	res, err := p.Register(ctx, expires)
	if err != nil {
		return fmt.Errorf("cannot register %s: %w", p.AOR(), err)
	}
	if res.Code() != 200 {
		return fmt.Errorf("cannot register %s: %d", p.AOR(), res.Code())
	}
	return nil
}

// writeFile writes a file of the demo and returns its path.
func (s *stage) writeFile(name string, text []byte) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, text, 0o600)
}

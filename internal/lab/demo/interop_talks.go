package demo

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/internal/lab/webpushsim"
)

// talk is one call, and who hangs up.
type talk struct {
	title    string
	callee   string // jssip or lab
	baresip  bool   // baresip calls, not a phone of the lab
	awake    bool
	webpush  bool // Web Push instead of FCM
	inURI    bool // push parameters in the URI
	byCallee bool // the callee hangs up
	noGRUU   bool // JsSIP does not use the GRUU that Kamailio gives it
}

// talks returns the calls, in their order.
func (r *interop) talks() []talk {
	return []talk{
		{title: "JsSIP is awake: rung without a push, the caller hangs up", callee: "jssip", awake: true, inURI: true},
		{title: "JsSIP is awake: rung without a push, JsSIP hangs up", callee: "jssip", awake: true, webpush: true, byCallee: true},
		{title: "JsSIP sleeps, RFC 8599 in the URI, FCM: woken, the caller hangs up", callee: "jssip", inURI: true},
		{title: "JsSIP sleeps, RFC 8599 in the URI, FCM: woken, JsSIP hangs up", callee: "jssip", inURI: true, byCallee: true},
		{title: "JsSIP sleeps, RFC 8599 in the URI, Web Push: woken, the caller hangs up", callee: "jssip", inURI: true, webpush: true},
		{title: "JsSIP sleeps, RFC 8599 behind the URI, Web Push: woken, the caller hangs up", callee: "jssip", webpush: true},
		{title: "JsSIP sleeps, RFC 8599 behind the URI, Web Push: woken, JsSIP hangs up", callee: "jssip", webpush: true, byCallee: true},
		{title: "JsSIP sleeps, RFC 8599 behind the URI, FCM: woken, JsSIP hangs up", callee: "jssip", byCallee: true},
		{title: "JsSIP without GRUU sleeps, FCM: woken, the caller hangs up", callee: "jssip", inURI: true, noGRUU: true},
		{title: "JsSIP without GRUU sleeps, Web Push: woken, JsSIP hangs up", callee: "jssip", webpush: true, byCallee: true, noGRUU: true},
		{title: "baresip calls over TCP, a phone of the lab sleeps: woken, baresip hangs up", callee: "lab", baresip: true},
		{title: "baresip calls over TCP, a phone of the lab sleeps: woken, the phone hangs up", callee: "lab", baresip: true, byCallee: true},
		{title: "baresip calls over TCP, JsSIP sleeps, FCM: woken, baresip hangs up", callee: "jssip", baresip: true, inURI: true},
		{title: "baresip calls over TCP, JsSIP sleeps, Web Push: woken, JsSIP hangs up", callee: "jssip", baresip: true, webpush: true, byCallee: true},
	}
}

// play makes one call, and counts it unless a client is missing.
func (r *interop) play(ctx context.Context, t talk) {
	if t.callee == "jssip" && !r.clients.browsers() || t.baresip && r.baresip == nil {
		fmt.Printf("skipped: %s\n", t.title)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r.calls++
	if err := r.talk(ctx, t); err != nil {
		fmt.Printf("FAILED:  %s: %v\n", t.title, err)
		return
	}
	r.good++
	fmt.Printf("ok:      %s\n", t.title)
}

func (r *interop) talk(ctx context.Context, t talk) error {
	user := fmt.Sprintf("bob%d", r.calls)
	token, err := r.token(t)
	if err != nil {
		return err
	}
	bob, err := r.callee(ctx, t, user, token)
	if err != nil {
		return err
	}
	defer bob.close()
	var alice caller = r.baresip
	if !t.baresip {
		lab, err := newLabCaller(&r.stage)
		if err != nil {
			return err
		}
		defer lab.close()
		alice = lab
	}
	dialled := make(chan error, 1)
	go func() { dialled <- alice.dial(ctx, user) }()
	if err := errors.Join(bob.answered(ctx), <-dialled); err != nil {
		return err
	}
	first, second := alice.hangUp, bob.hungUp
	if t.byCallee {
		first, second = bob.hangUp, alice.hungUp
	}
	if err := errors.Join(first(ctx), second(ctx)); err != nil {
		return err
	}
	want := 1
	if t.awake {
		want = 0
	}
	if n := r.pushed(token); n != want {
		return fmt.Errorf("%d pushes, not %d", n, want)
	}
	return nil
}

// token returns a new token. FCM tokens have capitals, which must be preserved.
func (r *interop) token(t talk) (string, error) {
	if t.webpush {
		sub, err := r.services.WebPush.MakeSubscription("")
		return sub.URL, err
	}
	return fmt.Sprintf("cAfe%d-Zs:APA91bHPRgkFLJu-5iQ4x9e2B7n0cT8wYk", r.calls), nil
}

// pushed counts the pushes to the token.
func (r *interop) pushed(token string) int {
	n := r.pushes(token)
	for _, p := range r.services.WebPush.Pushes() {
		if p.Token.Reveal() == token {
			n++
		}
	}
	return n
}

// callee returns a registered phone, asleep unless t wants it awake.
func (r *interop) callee(ctx context.Context, t talk, user, token string) (callee, error) {
	if t.callee == "lab" {
		p, err := r.newPhone(ctx, &scene{user: user, params: fcmParams, token: token, phone: answersSoon()})
		if err != nil && p != nil {
			p.Close()
		}
		return &labCallee{Phone: p}, err
	}
	j := &jssip{
		node: r.clients.node, script: filepath.Join(r.dir, "phone.cjs"), modules: r.clients.modules, pushed: make(chan struct{}, 8),
		config: jssipConfig{
			URI: "sip:" + user + "@" + demoDomain, Server: "ws://" + r.proxy.SIPAddress(),
			Instance: fmt.Sprintf("00000000-0000-4000-8000-%012d", r.calls), InURI: t.inURI, NoGRUU: t.noGRUU,
			Push: map[string]string{"pn-provider": "fcm", "pn-param": demoProject, "pn-prid": url.QueryEscape(token)},
		},
	}
	wake := func() { j.pushed <- struct{}{} }
	if t.webpush {
		j.config.Push = map[string]string{"pn-provider": "webpush", "pn-prid": url.QueryEscape(token)}
		r.services.WebPush.OnDeliver(token, func(*webpushsim.Message) { wake() })
	} else {
		r.services.FCM.OnDeliver(token, func(*fcmsim.Message) { wake() })
	}
	if err := j.wake(ctx); err != nil {
		j.close()
		return nil, err
	}
	if err := r.bound(ctx, user, true); err != nil {
		j.close()
		return nil, err
	}
	if t.awake {
		return j, nil
	}
	j.sleep()
	return j, r.forgotten(ctx)
}

// forgotten waits until Kamailio knows that no browser is connected any more.
func (r *interop) forgotten(ctx context.Context) error {
	k, ok := r.proxy.(*stack.Kamailio)
	if !ok {
		panic("BUG: not Kamailio")
	}
	return r.poll(ctx, "that the browser has gone", func() (bool, error) {
		text, err := k.Command(ctx, "core.tcp_list")
		return !strings.Contains(text, "type: WS"), err
	})
}

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sipwake/sipwake/cmd/sipwake-lab/fcmsim"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/phone"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/stack"
	"github.com/sipwake/sipwake/cmd/sipwake-lab/webpushsim"
)

type interopCmd struct {
	Sipwake string `default:"bin/sipwake" help:"The sipwake to run (${default})." type:"path"`
}

// interopPatience bounds the whole run.
const interopPatience = 4 * time.Minute

//go:embed interop
var interopFiles embed.FS

// interop is a stage with clients made by others.
type interop struct {
	stage
	webpush *webpushsim.Server
	clients clients
	baresip *baresip

	calls, good int
}

// Run starts everything, makes the calls and stops everything. It fails unless each
// call went as expected; clients that are missing are skipped.
func (c *interopCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, interopPatience)
	defer cancel()
	dir, err := os.MkdirTemp("", "sipwake-interop-")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	r := &interop{stage: stage{dir: dir, sipwake: c.Sipwake, store: "local", kind: webSocketKamailio()}}
	defer r.stopAll()
	if err := r.startAll(ctx); err != nil {
		return err
	}
	r.clients.print(ctx, c.Sipwake)
	for _, t := range r.talks() {
		r.play(ctx, t)
	}
	r.load(ctx)
	fmt.Printf("\ninterop: %d calls, %d as expected, %d failed\n", r.calls, r.good, r.calls-r.good)
	switch {
	case r.calls > r.good:
		r.printLogs()
		return errors.New("the clients do not all work")
	case r.calls == 0:
		return errors.New("no client is there")
	}
	return nil
}

func (r *interop) startAll(ctx context.Context) (err error) {
	if r.clients, err = findClients(); err != nil {
		return err
	}
	for _, name := range []string{"phone.cjs", "calls.xml"} {
		text, err := interopFiles.ReadFile("interop/" + name)
		if err != nil {
			return err
		}
		if _, err := r.writeFile(name, text); err != nil {
			return err
		}
	}
	if r.webpush, err = webpushsim.Start(webpushsim.Options{}); err != nil {
		return err
	}
	if r.config, err = r.webpushConfig(); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	if r.clients.baresip != "" {
		if r.baresip, err = startBaresip(ctx, &r.stage, r.clients.baresip, r.clients.baresipModules); err != nil {
			return err
		}
		r.logs = append(r.logs, r.baresip)
	}
	return nil
}

func (r *interop) stopAll() {
	if r.baresip != nil {
		r.baresip.close()
	}
	r.stop()
	if r.webpush != nil {
		r.webpush.Close()
	}
}

// webpushConfig is sipwake's configuration of the simulated Web Push service.
func (r *interop) webpushConfig() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	vapid, err := r.writeFile("vapid.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return "", err
	}
	ca, err := r.webpush.WriteCA(r.dir)
	return fmt.Sprintf(`webpush:
  vapid_key_file: %s
  subject: mailto:operator@example.com
  hosts: ["%s"]
  ca_file: %s
  allow_private: true
`, vapid, r.webpush.Host(), ca), err
}

// talk is one call, and who hangs up.
type talk struct {
	title    string
	callee   string // jssip or lab
	baresip  bool   // baresip calls, not a phone of the lab
	awake    bool
	webpush  bool // else FCM
	inURI    bool // push parameters
	byCallee bool // hangs up
}

// talks are the calls, in their order.
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
		{title: "baresip calls over TCP, a phone of the lab sleeps: woken, baresip hangs up", callee: "lab", baresip: true},
		{title: "baresip calls over TCP, a phone of the lab sleeps: woken, the phone hangs up", callee: "lab", baresip: true, byCallee: true},
		{title: "baresip calls over TCP, JsSIP sleeps, FCM: woken, baresip hangs up", callee: "jssip", baresip: true, inURI: true},
		{title: "baresip calls over TCP, JsSIP sleeps, Web Push: woken, JsSIP hangs up", callee: "jssip", baresip: true, webpush: true, byCallee: true},
	}
}

// callee is called.
type callee interface {
	answered(ctx context.Context) error // rung, answered, and the ACK is there
	hangUp(ctx context.Context) error   // sends BYE
	hungUp(ctx context.Context) error   // waits for the caller's BYE
	close()
}

// play makes one call, and counts it unless a client is missing.
func (r *interop) play(ctx context.Context, t talk) {
	if t.callee == "jssip" && r.clients.node == "" || t.baresip && r.baresip == nil {
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

// token is a new one. Those of FCM have capitals, and so they must stay.
func (r *interop) token(t talk) (string, error) {
	if t.webpush {
		sub, err := r.webpush.MakeSubscription("")
		return sub.URL, err
	}
	return fmt.Sprintf("cAfe%d-Zs:APA91bHPRgkFLJu-5iQ4x9e2B7n0cT8wYk", r.calls), nil
}

// pushed counts the pushes to the token.
func (r *interop) pushed(token string) int {
	n := r.pushes(token)
	for _, p := range r.webpush.Pushes() {
		if p.Token.Reveal() == token {
			n++
		}
	}
	return n
}

// callee is a registered phone, asleep unless it is to be awake.
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
			Instance: fmt.Sprintf("00000000-0000-4000-8000-%012d", r.calls), InURI: t.inURI,
			Push: map[string]string{"pn-provider": "fcm", "pn-param": demoProject, "pn-prid": url.QueryEscape(token)},
		},
	}
	wake := func() { j.pushed <- struct{}{} }
	if t.webpush {
		j.config.Push = map[string]string{"pn-provider": "webpush", "pn-prid": url.QueryEscape(token)}
		r.webpush.OnDeliver(token, func(*webpushsim.Message) { wake() })
	} else {
		r.fcm.OnDeliver(token, func(*fcmsim.Message) { wake() })
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
		return !strings.Contains(strings.ToLower(text), "ws"), err
	})
}

// load has SIPp call phones that sleep at first.
func (r *interop) load(ctx context.Context) {
	title := fmt.Sprintf("SIPp makes %d calls, %d a second, to %d phones of the lab that sleep at first", sippCalls, sippRate, sippPhones)
	if r.clients.sipp == "" {
		fmt.Printf("skipped: %s\n", title)
		return
	}
	r.calls += sippCalls
	phones, err := r.sleepers(ctx)
	defer func() {
		for _, p := range phones {
			p.Close()
		}
	}()
	if err != nil {
		fmt.Printf("FAILED:  %s: %v\n", title, err)
		return
	}
	var users []string
	for n := range phones {
		users = append(users, sleeper(n).user)
	}
	good, bad, err := runSIPp(ctx, &r.stage, r.clients.sipp, filepath.Join(r.dir, "calls.xml"), users)
	if err == nil {
		err = sleepersRung(phones, &r.stage)
	}
	if err != nil || bad > 0 || good != sippCalls {
		fmt.Printf("FAILED:  %s: %d succeeded, %d failed, %v\n", title, good, bad, err)
		if err == nil {
			r.good += good
		}
		return
	}
	r.good += good
	fmt.Printf("ok:      %s\n", title)
}

func sleeper(n int) scene {
	return scene{
		user: fmt.Sprintf("sleeper%d", n), params: fcmParams, token: fmt.Sprintf("fcm-token-of-sleeper-%d", n), phone: answersSoon(),
	}
}

func (r *interop) sleepers(ctx context.Context) (phones []*phone.Phone, err error) {
	for n := range sippPhones {
		sc := sleeper(n)
		p, err := r.newPhone(ctx, &sc)
		if p != nil {
			phones = append(phones, p)
		}
		if err != nil {
			return phones, err
		}
	}
	return phones, nil
}

// sleepersRung checks that each phone was pushed, and got its share of the calls once.
func sleepersRung(phones []*phone.Phone, s *stage) error {
	for n, p := range phones {
		if s.pushes(sleeper(n).token) == 0 {
			return fmt.Errorf("phone %d was not pushed", n)
		}
		calls := make(map[string]bool)
		for _, m := range p.Requests("INVITE") {
			calls[m.CallID()] = true
		}
		if len(calls) != sippCalls/sippPhones {
			return fmt.Errorf("phone %d was rung by %d calls, not %d", n, len(calls), sippCalls/sippPhones)
		}
	}
	return nil
}

package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sipwake/sipwake/internal/lab/services"
)

// Up runs a SIP proxy, sipwake, push services and phones, and controls them over HTTP.
type Up struct {
	Sipwake    string
	Proxy      string
	Store      string
	Dir        string
	Calls      bool
	Control    int
	SIP        int
	RPC        int
	Operations int
}

// upTimeout bounds the start.
const upTimeout = 2 * time.Minute

// Run starts everything, prints the addresses, and stops everything when ctx ends.
func (c *Up) Run(ctx context.Context) error {
	kind, err := proxyNamed(c.Proxy)
	if err != nil {
		return err
	}
	dir, temporary, err := labDir(c.Dir)
	if err != nil {
		return err
	}
	if temporary {
		defer os.RemoveAll(dir)
	}
	s := &stage{dir: dir, sipwake: c.Sipwake, store: c.Store, kind: kind, quiet: true, bundles: []string{otherBundle},
		ports: ports{sip: c.SIP, rpc: c.RPC, operations: c.Operations}}
	l := &lab{stage: s, program: c.Sipwake}
	defer l.stop()
	if err := l.start(ctx, c.Control); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	fmt.Print(l.addresses())
	if c.Calls {
		l.demoCalls(ctx)
	}
	if ctx.Err() == nil {
		fmt.Println("lab: runs until Ctrl-C")
	}
	<-ctx.Done()
	return nil
}

// labDir creates the directory, a temporary one if dir is empty.
func labDir(dir string) (path string, temporary bool, err error) {
	if dir == "" {
		path, err = os.MkdirTemp("", "sipwake-lab-")
	} else if path, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(path, 0o700)
	}
	if err != nil {
		return "", false, fmt.Errorf("cannot make a folder: %w", err)
	}
	return path, dir == "", nil
}

// lab is a running stage with its phones and its control.
type lab struct {
	*stage
	program string // sipwake
	phones  []*resident
	calls   callBook
	control *control
}

func (l *lab) start(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	if err := l.stage.start(ctx); err != nil {
		return err
	}
	for _, r := range residents() {
		if err := l.moveIn(ctx, r); err != nil {
			return err
		}
	}
	var err error
	l.control, err = startControl(port, l.routes())
	return err
}

func (l *lab) stop() {
	if l.control != nil {
		l.control.close()
	}
	l.calls.close()
	for _, r := range l.phones {
		r.Close()
	}
	l.stage.stop()
}

func (l *lab) addresses() string {
	return fmt.Sprintf(`lab: %s, sipwake (%s store), simulated APNs, FCM and Web Push, %d phones are up
lab: control     %s  (curl it: it says what can be asked)
lab: pages       http://%s/
lab: metrics     http://%s/metrics
lab: SIP         %s over UDP and TCP: your own softphone registers as any user of %s through it, without a password
lab: calls       %s
`, l.kind.title, l.store, len(l.phones), l.control.url, l.operations, l.operations, l.proxy.SIPAddress(), demoDomain, l.traceCommand(""))
}

// traceCommand returns the command with which an operator sees what happened to a call, or
// to the last calls if callID is empty.
func (l *lab) traceCommand(callID string) string {
	command := l.program + " trace --config " + l.configFile
	if callID != "" {
		command += " --call-id " + callID
	}
	return command
}

// demoCalls makes a call with each outcome, and prints how to see the reasons.
func (l *lab) demoCalls(ctx context.Context) {
	var made []*labCall
	for _, r := range append(residents(), &resident{name: "nobody", about: "has no phone"}) {
		if r.name == demoCaller {
			continue
		}
		c, err := l.dial(ctx, demoCaller, r.name)
		if err != nil {
			fmt.Printf("lab: cannot call %s: %v\n", r.name, err)
			continue
		}
		if r.name == impatient {
			go l.hangUpWhenPushed(ctx, c)
		}
		made = append(made, c)
	}
	for _, c := range made {
		select {
		case <-c.heard:
			l.hangUpSoon(c)
		case <-ctx.Done():
			return
		}
		fmt.Printf("lab: call %d to %-7s %s\n", c.number, c.to+":", c.state())
	}
	fmt.Printf("lab: each call above had another outcome; the reasons are on the pages and in the output of %s\n", l.traceCommand(""))
}

// hangUpWhenPushed hangs up as soon as the phone was pushed.
func (l *lab) hangUpWhenPushed(ctx context.Context, c *labCall) {
	if l.waitForPush(ctx, map[string]string{"call_id": c.CallID()}) == nil {
		_ = c.hangUp(ctx) // the call shows the result
	}
}

// otherBundle is an iOS app whose key the simulated Apple can refuse without affecting the
// other app.
const otherBundle = "org.example.refused"

// serviceName returns the push service of a phone, for the control.
func (r *resident) serviceName() string {
	if r.service == "" {
		return "none"
	}
	return map[string]string{services.APNs: "iPhone (apns)", services.FCM: "Android (fcm)", services.WebPush: "browser (webpush)"}[r.service]
}

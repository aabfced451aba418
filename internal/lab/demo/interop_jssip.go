package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// jssip is a phone of JsSIP. It is awake while a process of Node.js runs it.
type jssip struct {
	node, script, modules string // program, phone.cjs, the folder with node_modules
	config                jssipConfig
	pushed                chan struct{} // a push has come

	life   *jssipLife
	asleep bool
	host   string // of the Contact it had when it fell asleep
}

// jssipConfig is the first line for phone.cjs.
type jssipConfig struct {
	URI      string            `json:"uri"`
	Server   string            `json:"server"`
	Instance string            `json:"instance"`
	Push     map[string]string `json:"push"`
	InURI    bool              `json:"in_uri"` // push parameters in the Contact URI, not after it
	NoGRUU   bool              `json:"no_gruu"`
}

// jssipLife is one process of a phone, from its start until it is killed.
type jssipLife struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan jssipEvent
	host   string // of its Contact
}

// jssipEvent is a line of phone.cjs.
type jssipEvent struct{ Event, Host, Originator, Cause string }

// wake starts the phone, and returns when it has registered.
func (j *jssip) wake(ctx context.Context) (err error) {
	if j.life, err = j.born(ctx); err != nil {
		return err
	}
	e, err := j.life.next(ctx, "registered")
	j.life.host = e.Host
	return err
}

func (j *jssip) born(ctx context.Context) (*jssipLife, error) {
	config, err := json.Marshal(j.config)
	if err != nil {
		return nil, err
	}
	l := &jssipLife{cmd: exec.CommandContext(ctx, j.node, j.script, j.modules), events: make(chan jssipEvent, 64)}
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := l.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start JsSIP: %w", err)
	}
	go func() {
		defer close(l.events)
		for s := bufio.NewScanner(out); s.Scan(); {
			var e jssipEvent
			if json.Unmarshal(s.Bytes(), &e) == nil {
				l.events <- e
			}
		}
	}()
	if _, err := l.stdin.Write(append(config, '\n')); err != nil {
		l.kill()
		return nil, fmt.Errorf("cannot start JsSIP: %w", err)
	}
	return l, nil
}

// next waits for the next event. It is an error if this is another event.
func (l *jssipLife) next(ctx context.Context, want string) (jssipEvent, error) {
	select {
	case e, ok := <-l.events:
		if !ok {
			return e, fmt.Errorf("JsSIP ended instead of %s", want)
		}
		if e.Event != want {
			return e, fmt.Errorf("JsSIP: %s %s, not %s", e.Event, e.Cause, want)
		}
		return e, nil
	case <-ctx.Done():
		return jssipEvent{}, fmt.Errorf("JsSIP: no %s", want)
	}
}

// kill ends the phone like an operating system: without notice.
func (l *jssipLife) kill() {
	_ = l.cmd.Process.Kill()
	_ = l.stdin.Close()
	for range l.events { // until it has ended
	}
	_ = l.cmd.Wait()
}

// sleep kills the phone; only a push wakes it.
func (j *jssip) sleep() {
	j.host, j.asleep = j.life.host, true
	j.life.kill()
}

// answered waits until the phone has been rung, has answered and has got the ACK. A
// sleeping phone waits for a push first, and registers with another name.
func (j *jssip) answered(ctx context.Context) error {
	if j.asleep {
		select {
		case <-j.pushed:
		case <-ctx.Done():
			return errors.New("JsSIP: no push")
		}
		if err := j.wake(ctx); err != nil {
			return err
		}
		if j.host == j.life.host || !strings.HasSuffix(j.life.host, ".invalid") {
			return fmt.Errorf("JsSIP is %s again, not another .invalid", j.life.host)
		}
	}
	if _, err := j.life.next(ctx, "ringing"); err != nil {
		return err
	}
	e, err := j.life.next(ctx, "confirmed")
	if err == nil && e.Originator != "remote" {
		err = fmt.Errorf("JsSIP: confirmed by %s", e.Originator)
	}
	return err
}

// hangUp sends BYE.
func (j *jssip) hangUp(ctx context.Context) error {
	if _, err := io.WriteString(j.life.stdin, "hangup\n"); err != nil {
		return err
	}
	_, err := j.life.next(ctx, "ended")
	return err
}

// hungUp waits for the caller's BYE.
func (j *jssip) hungUp(ctx context.Context) error {
	e, err := j.life.next(ctx, "ended")
	if err == nil && e.Originator != "remote" {
		err = fmt.Errorf("JsSIP: ended by %s (%s)", e.Originator, e.Cause)
	}
	return err
}

func (j *jssip) close() {
	if j.life != nil {
		j.life.kill()
	}
}

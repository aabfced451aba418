package demo

import (
	"context"
	"fmt"

	"github.com/sipwake/sipwake/internal/lab/phone"
)

// caller makes one call at a time.
type caller interface {
	dial(ctx context.Context, user string) error // until it is answered
	hangUp(ctx context.Context) error            // sends BYE
	hungUp(ctx context.Context) error            // waits for the callee's BYE
	close()
}

// callee is called.
type callee interface {
	answered(ctx context.Context) error // rung, answered, and the ACK is there
	hangUp(ctx context.Context) error   // sends BYE
	hungUp(ctx context.Context) error   // waits for the caller's BYE
	close()
}

// labCaller is a phone of the lab.
type labCaller struct {
	*phone.Phone
	call *phone.Call
}

func newLabCaller(s *stage) (*labCaller, error) {
	p, err := phone.New(phone.Config{User: "alice", Domain: demoDomain, Proxy: s.proxy.SIPAddress()})
	return &labCaller{Phone: p}, err
}

func (c *labCaller) dial(ctx context.Context, user string) (err error) {
	if c.call, err = c.Invite(ctx, user, phone.InviteOptions{}); err != nil {
		return err
	}
	final, err := c.call.Final(ctx)
	if err == nil && final.Code != 200 {
		err = fmt.Errorf("the caller got %d, not 200", final.Code)
	}
	return err
}

func (c *labCaller) hangUp(ctx context.Context) error {
	m, err := c.call.Bye(ctx)
	if err == nil && m.Code() != 200 {
		err = fmt.Errorf("BYE got %d, not 200", m.Code())
	}
	return err
}

func (c *labCaller) hungUp(ctx context.Context) error {
	_, err := c.WaitBye(ctx)
	return err
}

func (c *labCaller) close() { c.Close() }

// labCallee is a phone of the lab that is called.
type labCallee struct {
	*phone.Phone
	in *phone.Incoming
}

func (c *labCallee) answered(ctx context.Context) (err error) {
	if c.in, err = c.WaitInvite(ctx); err != nil {
		return err
	}
	return c.in.Acked(ctx)
}

func (c *labCallee) hangUp(ctx context.Context) error {
	m, err := c.in.Bye(ctx)
	if err == nil && m.Code() != 200 {
		err = fmt.Errorf("BYE got %d, not 200", m.Code())
	}
	return err
}

func (c *labCallee) hungUp(ctx context.Context) error {
	_, err := c.WaitBye(ctx)
	return err
}

func (c *labCallee) close() { c.Close() }

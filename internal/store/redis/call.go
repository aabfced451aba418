package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// script is a Lua script and the hash by which Redis knows it.
type script struct{ text, hash string }

func newScript(text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{text, hex.EncodeToString(sum[:])}
}

func noScript(err error) bool {
	return err != nil && (errors.Is(err, goredis.ErrNoScript) || goredis.HasErrorPrefix(err, "NOSCRIPT"))
}

// call is a script with its arguments: first keys, then keysEnd, then the others, then
// run. Calls are used again, with their buffers, because a REGISTER would leave most of
// its garbage here.
type call struct {
	pending
	s      *Store
	script *script
	keys   int
	texts  []text
	buf    []byte // of the texts
	value  []byte // for an encoded value
	cmd    command
}

// text is an argument. go-redis writes what a pointer to it refers to, without a copy.
type text []byte

// MarshalBinary implements encoding.BinaryMarshaler.
func (t *text) MarshalBinary() ([]byte, error) { return *t, nil }

// command is a goredis.Cmd that can be sent again with other arguments.
type command struct {
	*goredis.Cmd
	args []any
}

// Args implements goredis.Cmder.
func (c *command) Args() []any { return c.args }

var calls = sync.Pool{New: func() any {
	c := &call{pending: pending{ready: make(chan struct{}, 1)}}
	c.cmd.Cmd = goredis.NewCmd(context.Background(), "evalsha")
	return c
}}

func (s *Store) call(script *script) *call {
	c := calls.Get().(*call)
	c.s, c.script = s, script
	return c
}

// add adds an argument: what to has more than c.buf, from which it was appended.
func (c *call) add(to []byte) {
	n := len(c.buf)
	c.buf = to
	c.texts = append(c.texts, to[n:len(to):len(to)])
}

func (c *call) str(s string) { c.add(append(c.buf, s...)) }
func (c *call) int(n int64)  { c.add(strconv.AppendInt(c.buf, n, 10)) }

// bytes adds b itself, which must not change any more.
func (c *call) bytes(b []byte) { c.texts = append(c.texts, b) }

func (c *call) keysEnd() { c.keys = len(c.texts) }

// run sends the script and returns its answer (nil if there is none), or an error when
// ctx ends. If the server does not know the script, run sends its text. The call must not
// be used after it.
func (c *call) run(ctx context.Context) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, c.s.unavailable(ctx, err)
	}
	c.ctx, c.left = ctx, false
	cmd := c.cmd.Cmd
	if c.s.config.isCluster() {
		// The client of a cluster reads the key.
		cmd = goredis.NewCmd(ctx, append([]any{"evalsha", c.script.hash, c.keys}, c.strings()...)...)
		cmd.SetFirstKeyPos(3)
		c.pending.cmd = cmd
	} else {
		c.cmd.args = append(c.cmd.args[:0], "evalsha", &c.script.hash, c.keys)
		for i := range c.texts {
			c.cmd.args = append(c.cmd.args, &c.texts[i])
		}
		c.pending.cmd = &c.cmd
	}
	c.s.pipe.submit(&c.pending)
	err := c.wait()
	if noScript(err) {
		cmd = c.eval(ctx)
		err = cmd.Err()
	}
	var answer any
	switch {
	case err == nil:
		answer = cmd.Val()
	case errors.Is(err, goredis.Nil):
		err = nil
	default:
		err = c.s.unavailable(ctx, err)
	}
	if !c.left { // else it may still be on its way
		c.free()
	}
	return answer, err
}

func (c *call) eval(ctx context.Context) *goredis.Cmd {
	all := c.strings()
	keys := make([]string, c.keys)
	for i := range keys {
		keys[i], _ = all[i].(string)
	}
	return c.s.client.Eval(ctx, c.script.text, keys, all[c.keys:]...)
}

// strings returns the keys and the arguments.
func (c *call) strings() []any {
	all := make([]any, len(c.texts))
	for i, t := range c.texts {
		all[i] = string(t)
	}
	return all
}

// mostKept bounds the buffers of a call that is kept.
const mostKept = 8 << 10

// free makes the call available to others.
func (c *call) free() {
	if max(cap(c.buf), cap(c.value), cap(c.texts)) > mostKept {
		return
	}
	clear(c.texts)
	c.texts, c.buf, c.keys = c.texts[:0], c.buf[:0], 0
	c.cmd.SetVal(nil)
	c.cmd.SetErr(nil)
	c.pending = pending{ready: c.ready}
	c.s, c.script = nil, nil
	calls.Put(c)
}

// run runs a script with these keys and arguments.
func (s *Store) run(ctx context.Context, script *script, keys []string, args ...any) (any, error) {
	c := s.call(script)
	for _, k := range keys {
		c.str(k)
	}
	c.keysEnd()
	for _, a := range args {
		switch v := a.(type) {
		case string:
			c.str(v)
		case []byte:
			c.bytes(v)
		case int:
			c.int(int64(v))
		case int64:
			c.int(v)
		default:
			panic(fmt.Sprintf("BUG: an argument of type %T", a))
		}
	}
	return c.run(ctx)
}

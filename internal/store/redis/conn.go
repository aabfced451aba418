package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/wake"
)

// call is a script in progress.
type call struct {
	s      *Store
	script *goredis.Script
	keys   []string
	args   []any
	cmd    *goredis.Cmd
	future sent
	err    error // it was not sent
}

// run sends the script and does not wait. Script.Run would wait: on the deferred
// pipeline, checking its error blocks until the answer comes, whatever the context.
func (s *Store) run(ctx context.Context, script *goredis.Script, keys []string, args ...any) call {
	if err := ctx.Err(); err != nil {
		return call{s: s, err: err}
	}
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, "evalsha", script.Hash(), len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	cmd := goredis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	return call{s: s, script: script, keys: keys, args: args, cmd: cmd, future: s.pipe.submit(ctx, cmd)}
}

// wait returns the script's answer (nil if there is none), or an error when ctx ends.
// If the server does not know the script, wait sends it.
func (c *call) wait(ctx context.Context) (any, error) {
	if c.err != nil {
		return nil, c.s.unavailable(ctx, c.err)
	}
	err := c.future.wait(ctx)
	if noScript(err) {
		c.cmd = c.script.Eval(ctx, c.s.client, c.keys, c.args...)
		err = c.cmd.Err()
	}
	if errors.Is(err, goredis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, c.s.unavailable(ctx, err)
	}
	return c.cmd.Val(), nil
}

// do sends the command and waits for its answer or until ctx ends.
func (s *Store) do(ctx context.Context, cmd goredis.Cmder) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.pipe.submit(ctx, cmd).wait(ctx)
}

// unavailable returns an error without any command arguments: Redis quotes them in
// some of its errors, and they contain tokens and passwords.
func (s *Store) unavailable(ctx context.Context, err error) error {
	s.metrics.errors.Inc()
	var reply goredis.Error
	var netErr net.Error
	var certErr *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no answer from Redis: %w", wake.ErrUnavailable, context.Cause(ctx))
	case errors.Is(err, goredis.ErrAutoPipelineQueueFull):
		return fmt.Errorf("%w: too many commands wait for Redis", wake.ErrUnavailable)
	case errors.Is(err, goredis.ErrClosed):
		return fmt.Errorf("%w: the store is closed", wake.ErrUnavailable)
	case errors.Is(err, errReplicas):
		return fmt.Errorf("%w: %w", wake.ErrUnavailable, err)
	case errors.As(err, &netErr), errors.As(err, &certErr),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", wake.ErrUnavailable, err)
	case errors.As(err, &reply):
		code, _, _ := strings.Cut(err.Error(), " ")
		if strings.HasPrefix(err.Error(), "ERR Protocol error: unauthenticated") {
			code = "NOAUTH" // the answer to commands that are longer than a login
		}
		return fmt.Errorf("%w: Redis answered %s", wake.ErrUnavailable, code)
	}
	return fmt.Errorf("%w: connection to Redis failed", wake.ErrUnavailable)
}

func noScript(err error) bool {
	return err != nil && (errors.Is(err, goredis.ErrNoScript) || goredis.HasErrorPrefix(err, "NOSCRIPT"))
}

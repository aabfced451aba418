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

// do sends the command and waits for its answer or until ctx ends.
func (s *Store) do(ctx context.Context, cmd goredis.Cmder) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.submit(ctx, cmd).wait()
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

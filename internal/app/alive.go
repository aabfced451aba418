package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// Alive connects to both listeners as a client and returns nil if each reacts before
// ctx ends. Any answer counts, including 503: an unavailable store or an overload is no
// reason to restart the service. Call it after Start; it may run concurrently with the
// other methods.
func (a *App) Alive(ctx context.Context) error {
	// /readyz queries the store, and so detects one that hangs.
	if err := reacts(ctx, a.OperationsAddr(), "/readyz"); err != nil {
		return fmt.Errorf("cannot reach the operations listener: %w", err)
	}
	return a.rpcReacts(ctx)
}

// rpcReacts is the RPC listener's part of Alive.
func (a *App) rpcReacts(ctx context.Context) error {
	if err := reacts(ctx, a.RPCAddr(), "/"); err != nil {
		return fmt.Errorf("cannot reach the RPC listener: %w", err)
	}
	return nil
}

// reacts sends an HTTP request and waits for the first byte or the end of the
// connection, which is how a TLS listener reacts to plain HTTP.
func reacts(ctx context.Context, addr, path string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

package store

import (
	"context"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// Backend is all that a store offers. storetest holds each of them to it.
type Backend interface {
	wake.Store
	wake.Sweeper
	wake.History
	outbox.Store
	upper.Store
	// Ping reports whether the store can be used right now.
	Ping(ctx context.Context) error
	// Close ends what the store has open. Nobody uses the store any more.
	Close() error
}

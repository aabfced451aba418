package store

import (
	"context"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// Backend is everything that a store offers. storetest checks every store against it.
type Backend interface {
	wake.Store
	wake.Sweeper
	wake.History
	outbox.Store
	upper.Store
	// Ping reports whether the store can be used right now.
	Ping(ctx context.Context) error
	// Close releases the store's resources. The store must not be used afterwards.
	Close() error
}

package app

import (
	"context"
)

// backup returns the function that backs up the store, nil if it is not the embedded one.
func (a *App) backup() func(context.Context) (file string, bytes int64, err error) {
	s, ok := a.store.(interface {
		Backup(ctx context.Context) (file string, bytes int64, err error)
	})
	if !ok {
		return nil
	}
	return s.Backup
}

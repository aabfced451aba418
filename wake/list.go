package wake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/pnparam"
)

const (
	maxPage      = 1000
	maxListings  = 4
	listPatience = time.Minute // between two pages
)

// listings are the lists of all bindings that are being read, each by a goroutine
// of its own that waits for the next page to be asked for.
type listings struct {
	mu   sync.Mutex
	byID map[string]*listing
}

type listing struct {
	mu     sync.Mutex // one page at a time
	found  chan []Binding
	rest   []Binding // found, and not returned yet
	err    error     // of the scan; read it once found is closed
	cancel context.CancelFunc
	idle   *time.Timer
}

// AllBindings returns the bindings of every AOR, a page at a time, in no order.
// The first page is had with the empty cursor, each next one with the cursor that
// came with the last; with the last page comes the empty one. One that changes
// meanwhile is seen as it was or as it is; one may be seen twice. A cursor is this
// instance's own and good for a minute. A page has up to about limit bindings,
// fewer if ctx ends.
func (s *Service) AllBindings(ctx context.Context, cursor string, limit int) (page []Binding, next string, err error) {
	limit = min(max(limit, 1), maxPage)
	if cursor == "" {
		if cursor, err = s.openListing(); err != nil {
			return nil, "", err
		}
	}
	s.listings.mu.Lock()
	l := s.listings.byID[cursor]
	s.listings.mu.Unlock()
	if l == nil {
		return nil, "", &ParamError{"cursor", "is not known (any more); begin anew"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle.Reset(listPatience)
	page, more, err := l.page(ctx, limit)
	if err != nil || !more {
		s.closeListing(cursor)
		return page, "", err
	}
	return page, cursor, nil
}

func (l *listing) page(ctx context.Context, limit int) (page []Binding, more bool, err error) {
	for {
		n := min(limit-len(page), len(l.rest))
		page, l.rest = append(page, l.rest[:n]...), l.rest[n:]
		if len(page) == limit {
			return page, true, nil
		}
		select {
		case found, ok := <-l.found:
			if !ok {
				return page, false, l.err
			}
			l.rest = found
		case <-ctx.Done(): // an empty page is no end
			return page, true, nil
		}
	}
}

func (s *Service) openListing() (id string, err error) {
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	if len(s.listings.byID) >= maxListings {
		return "", fmt.Errorf("%w: %d lists are being read already", ErrBusy, maxListings)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	l := &listing{found: make(chan []Binding), cancel: cancel}
	id = uuid.NewString()
	l.idle = time.AfterFunc(listPatience, func() { s.closeListing(id) })
	started := s.spawn(func() {
		defer close(l.found)
		l.err = s.sweeper.Scan(ctx, func(b []Binding) error {
			select {
			case l.found <- slices.Clone(b):
				return nil
			case <-s.stop:
				return ErrStopped
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if errors.Is(l.err, context.Canceled) {
			l.err = ErrStopped
		}
	})
	if !started {
		l.idle.Stop()
		cancel()
		return "", ErrStopped
	}
	if s.listings.byID == nil {
		s.listings.byID = make(map[string]*listing)
	}
	s.listings.byID[id] = l
	return id, nil
}

func (s *Service) closeListing(id string) {
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	if l := s.listings.byID[id]; l != nil {
		l.idle.Stop()
		l.cancel()
		delete(s.listings.byID, id)
	}
}

// Import stores bindings of another sipwake, or of another system, as if their
// phones had registered then and slept since. A device that is known here and
// registered at the same time or later stays as it is. It returns how many were
// stored. A bad binding is a ParamError that names its place, and nothing is
// stored; after another error some may be, and it can be repeated.
func (s *Service) Import(ctx context.Context, bindings []Binding) (stored int, err error) {
	for i := range bindings {
		if err := checkImport(&bindings[i]); err != nil {
			return 0, &ParamError{fmt.Sprintf("bindings[%d].%s", i, err.Field), err.Problem}
		}
	}
	var (
		mu   sync.Mutex
		errs []error
		wait sync.WaitGroup
	)
	for _, b := range bindings {
		wait.Go(func() {
			did, err := s.importOne(ctx, b)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else if did {
				stored++
			}
		})
	}
	wait.Wait()
	return stored, errors.Join(errs...)
}

func checkImport(b *Binding) *ParamError {
	var err error
	if b.AOR, err = cleanAOR(b.AOR); err != nil {
		if p := (*ParamError)(nil); errors.As(err, &p) {
			return p
		}
	}
	switch {
	case b.Address.Provider == "":
		return &ParamError{"provider", "is missing"}
	case len(b.Address.Tokens) == 0:
		return &ParamError{"tokens", "is missing"}
	case b.RegisteredAt.IsZero():
		return &ParamError{"registered_at", "is missing"}
	}
	for _, t := range b.Address.Tokens {
		if t.Value.Empty() {
			return &ParamError{"tokens", "has an empty token"}
		}
	}
	if b.Device == "" {
		b.Device = pnparam.DeviceID(b.Address)
	}
	for field, v := range map[string]string{"device": b.Device, "call_id": b.CallID} {
		if err := (*ParamError)(nil); errors.As(checkID(field, v), &err) {
			return err
		}
	}
	return nil
}

func (s *Service) importOne(ctx context.Context, b Binding) (stored bool, err error) {
	known, err := s.store.Bindings(ctx, Query{AOR: b.AOR})
	if err != nil {
		return false, err
	}
	for _, k := range known {
		if k.Device == b.Device && !k.RegisteredAt.Before(b.RegisteredAt) {
			return false, nil
		}
	}
	// It has not registered just now: it is asleep, and to be pushed.
	res, err := s.store.Register(ctx, Registration{Binding: b, Action: Bind, Late: true})
	return err == nil && res.Status != Stale, err
}

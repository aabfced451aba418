package wake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/trace"
)

// Bindings returns the bindings of an AOR, or those with the token. Exactly one of
// the two must be given.
func (s *Service) Bindings(ctx context.Context, aor string, token secret.Token) ([]Binding, error) {
	if aor == "" && !token.Empty() {
		return s.store.Bindings(ctx, Query{Token: token})
	}
	aor, err := CleanAOR(aor)
	if err != nil {
		return nil, err
	}
	return s.store.Bindings(ctx, Query{AOR: aor})
}

// Removals returns why bindings of the AOR were removed, oldest first, as far as the
// store knows: see History.
func (s *Service) Removals(ctx context.Context, aor string) ([]RemovalNote, error) {
	aor, err := CleanAOR(aor)
	if err != nil {
		return nil, err
	}
	return s.history.Removals(ctx, aor)
}

// RemoveBindings removes bindings for an operator or a tenant: those of an AOR,
// limited to a device or a token if given, or all those with the token. For a tenant
// it removes only what is in the scope. It returns the number removed.
func (s *Service) RemoveBindings(ctx context.Context, by Caller, aor, device string, token secret.Token) (int, error) {
	q := Query{Token: token}
	if aor != "" || token.Empty() {
		aor, err := CleanAOR(aor)
		if err != nil {
			return 0, err
		}
		if by.Scope == nil {
			return s.remove(ctx, Removal{AOR: aor, Device: device, Token: token}, removedOperator)
		}
		q = Query{AOR: aor}
	}
	bindings, err := s.store.Bindings(ctx, q)
	if err != nil {
		return 0, err
	}
	total := 0
	for _, b := range by.Scope.Of(slices.Clone(bindings)) {
		if device != "" && device != b.Device {
			continue
		}
		n, err := s.remove(ctx, Removal{AOR: b.AOR, Device: b.Device, Token: token}, removedOperator)
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// remove removes bindings, or a token of them, and returns the number of bindings
// removed.
func (s *Service) remove(ctx context.Context, r Removal, reason string) (int, error) {
	r.Reason = reason
	res, err := s.store.Remove(ctx, r)
	if err != nil {
		return 0, err
	}
	if res.Bindings > 0 {
		s.metrics.removed.WithLabelValues(reason).Add(float64(res.Bindings))
		s.log.Info("binding removed", "aor", r.AOR, "device", trace.DeviceName(r.Device), "token", r.Token, "reason", reason, "bindings", res.Bindings)
	}
	if res.Tokens > 0 {
		s.log.Info("token removed, the device has another one", "aor", r.AOR, "device", trace.DeviceName(r.Device), "token", r.Token, "reason", reason)
	}
	return res.Bindings, nil
}

// EachBinding calls f with the bindings of every AOR, in batches; an AOR's bindings
// come together: see Sweeper.
func (s *Service) EachBinding(ctx context.Context, f func([]Binding) error) error {
	return s.sweeper.Scan(ctx, f)
}

const (
	maxPage     = 1000
	maxListings = 4           // of the operator
	maxOwn      = 2           // of each tenant
	listTimeout = time.Minute // between two pages
)

// listings are the lists of all bindings that are being read. Each has a goroutine that
// waits until the next page is requested.
type listings struct {
	mu   sync.Mutex
	byID map[string]*listing
}

type listing struct {
	by     string     // the caller's name
	mu     sync.Mutex // one page at a time
	found  chan []Binding
	rest   []Binding // found but not yet returned
	err    error     // from the scan; read it only once found is closed
	cancel context.CancelFunc
	idle   *time.Timer
	asked  time.Time // when the last page was requested
}

// AllBindings returns the bindings of every AOR that the caller may see, in pages
// and in no order. Start with an empty cursor, then pass the cursor of the previous
// page, until a page has an empty one. A binding that changes meanwhile is returned
// in its old or new state; a binding may be returned twice. A cursor is bound to
// this instance and the caller, and is valid for a minute. A page has up to limit
// bindings, at most 1000, and fewer if ctx ends. If the caller already has four
// lists open (a tenant: two), the one that has waited longest for its next page is
// closed.
func (s *Service) AllBindings(ctx context.Context, by Caller, cursor string, limit int) (page []Binding, next string, err error) {
	limit = min(max(limit, 1), maxPage)
	if cursor == "" {
		if cursor, err = s.openListing(by); err != nil {
			return nil, "", err
		}
	}
	s.listings.mu.Lock()
	l := s.listings.byID[cursor]
	if l != nil && l.by != by.Name {
		l = nil
	}
	if l != nil {
		l.asked = time.Now()
		l.idle.Reset(listTimeout)
	}
	s.listings.mu.Unlock()
	if l == nil {
		return nil, "", &ParamError{"cursor", "is not known (any more); start from the first page"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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
		case <-ctx.Done(): // an empty page is not the end
			return page, true, nil
		}
	}
}

func (s *Service) openListing(by Caller) (id string, err error) {
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	most := maxListings
	if by.Scope != nil {
		most = maxOwn
	}
	s.listings.makeRoom(by.Name, most)
	l := &listing{by: by.Name, found: make(chan []Binding), asked: time.Now()}
	ctx, cancel := context.WithCancel(s.ctx)
	l.cancel = cancel
	id = uuid.NewString()
	err = s.Go(func(context.Context) {
		defer close(l.found)
		l.err = s.sweeper.Scan(ctx, func(b []Binding) error {
			if b = by.Scope.Of(slices.Clone(b)); len(b) == 0 {
				return ctx.Err()
			}
			select {
			case l.found <- b:
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
	if err != nil {
		cancel()
		return "", err
	}
	l.idle = time.AfterFunc(listTimeout, func() { s.closeListing(id) })
	if s.listings.byID == nil {
		s.listings.byID = make(map[string]*listing)
	}
	s.listings.byID[id] = l
	return id, nil
}

func (s *Service) closeListing(id string) {
	s.listings.mu.Lock()
	defer s.listings.mu.Unlock()
	s.listings.close(id)
}

func (ls *listings) close(id string) {
	if l := ls.byID[id]; l != nil {
		l.idle.Stop()
		l.cancel()
		delete(ls.byID, id)
	}
}

// makeRoom closes the caller's list that has waited longest for its next page, if
// the caller already has that many (most) open.
func (ls *listings) makeRoom(by string, most int) {
	oldest, n := "", 0
	for id, l := range ls.byID {
		if l.by != by {
			continue
		}
		if n++; oldest == "" || l.asked.Before(ls.byID[oldest].asked) {
			oldest = id
		}
	}
	if n >= most {
		ls.close(oldest)
	}
}

// Import stores bindings of another sipwake or another system, as if their phones
// had registered at that time and slept since. A device already known here that
// registered at the same time or later is left unchanged. Import returns the number
// stored. An invalid binding causes a ParamError with its position, and nothing is
// stored. After any other error some may be stored; Import can be repeated.
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
	if b.AOR, err = CleanAOR(b.AOR); err != nil {
		if p := (*ParamError)(nil); errors.As(err, &p) {
			return p
		}
	}
	if bad := (*pnparam.Error)(nil); errors.As(b.Address.Check(), &bad) {
		return &ParamError{bad.Field, bad.Problem}
	}
	if b.RegisteredAt.IsZero() {
		return &ParamError{"registered_at", "is missing"}
	}
	if b.Device == "" {
		b.Device = pnparam.DeviceID(b.Address)
	}
	for field, v := range map[string]string{"device": b.Device, "call_id": b.CallID} {
		if err := (*ParamError)(nil); errors.As(CheckID(field, v), &err) {
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
	// The registration is not recent: the device is asleep and must be pushed.
	res, err := s.store.Register(ctx, Registration{Binding: b, Action: ActionBind, Late: true})
	return err == nil && res.Status != StatusStale, err
}

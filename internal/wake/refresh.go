package wake

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/sipwake/sipwake/push"
)

// countEvery is the interval at which all bindings are counted.
const countEvery = 5 * time.Minute

// Refresh wakes devices before their registration expires, so that they stay
// reachable (RFC 8599 section 5.5), and counts the bindings of each app. Every
// instance looks for due bindings. A claim in the store ensures that one instance
// sends each push, once, even across restarts. Refresh blocks until ctx ends; run it
// in its own goroutine.
func (s *Service) Refresh(ctx context.Context) {
	var counted time.Time
	for {
		cfg := s.settings.Load().Refresh
		timer := time.NewTimer(cfg.Every)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		var err error
		if cfg.Enabled {
			err = s.sweeper.Expiring(ctx, time.Now().Add(cfg.lead()), func(b Binding) (time.Time, error) {
				return s.refreshOne(ctx, b, cfg)
			})
		}
		if time.Since(counted) >= countEvery {
			counted = time.Now()
			err = errors.Join(err, s.countBindings(ctx))
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("cannot look through the bindings", "err", err)
		}
	}
}

// lead is how long before its end a registration is first looked at.
func (c *RefreshConfig) lead() time.Duration { return c.Before + c.Spread }

func (s *Service) countBindings(ctx context.Context) error {
	count := make(map[appLabels]int)
	err := s.sweeper.Scan(ctx, func(bindings []Binding) error {
		for i := range bindings {
			count[s.labels(bindings[i].Address)]++
		}
		return nil
	})
	if err == nil {
		s.metrics.setBindings(count)
	}
	return err
}

// lateFor is how long after its end a registration is still looked at.
const lateFor = 10 * time.Minute

// refreshOne does what is due for a binding. It returns when to look at the binding
// again, plus the lead: see Sweeper.Expiring.
func (s *Service) refreshOne(ctx context.Context, b Binding, cfg RefreshConfig) (next time.Time, err error) {
	if b.ExpiresAt.IsZero() { // the device ended its registration itself
		return time.Time{}, nil
	}
	left := time.Until(b.ExpiresAt)
	key := fmt.Sprintf("%s %s %d", b.AOR, b.Device, b.ExpiresAt.UnixMilli())
	before := cfg.Before + spread(key, cfg.Spread)
	switch {
	case left > before:
		return b.ExpiresAt.Add(cfg.lead() - before), nil
	case left > 0:
		if s.settings.Load().Remove.RefreshUnanswered > 0 {
			next = b.ExpiresAt.Add(cfg.lead())
		}
		return next, s.refreshDue(ctx, b, key, left)
	case left > -lateFor:
		return next, s.refreshLate(ctx, b, key)
	}
	return next, nil
}

// spread returns a time between 0 and most, always the same for a key.
func spread(key string, most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	return time.Duration(h.Sum64() % uint64(most))
}

func (s *Service) refreshDue(ctx context.Context, b Binding, key string, left time.Duration) error {
	p := DevicePush{Binding: b, Kind: push.Refresh, Values: push.Values{AOR: b.AOR}, Deadline: b.ExpiresAt}
	req, reason := s.requestFor(&p)
	if reason != "" { // for example an iPhone with only a voip token
		return nil
	}
	mine, err := s.sweeper.Claim(ctx, "refresh "+key, left+lateFor)
	if err != nil || !mine {
		return err
	}
	s.send(s.ctx, &p.Binding, req, func(push.Outcome) {})
	return nil
}

// refreshLate counts a registration that expired although the device was pushed.
func (s *Service) refreshLate(ctx context.Context, b Binding, key string) error {
	limit := s.settings.Load().Remove.RefreshUnanswered
	if limit == 0 {
		return nil
	}
	mine, err := s.sweeper.Claim(ctx, "late "+key, 2*lateFor)
	if err != nil || !mine {
		return err
	}
	s.countFailure(&b, removedUnrefreshed, limit, b.RegisteredAt)
	return nil
}

package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/cluster"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// adoptBatch is how many wakes of a dead instance are read in one batch.
const adoptBatch = 64

// ownedFor is how long Redis keeps the list of an instance's wakes if no instance
// adopts them.
const ownedFor = store.MaxKeep

func (s *Store) aliveKey() string                { return s.config.Prefix + "p:alive" }
func (s *Store) newsChannel() string             { return s.config.Prefix + "p:news" }
func (s *Store) ownedKey(instance string) string { return s.config.Prefix + "p:w:" + instance }

// own adds the wake to its owner's list. It does not wait.
func (s *Store) own(ctx context.Context, w *wake.Wake) {
	if w.Owner != "" {
		until := s.clock.toRedis(w.StartedAt).Add(store.Keep(w)).UnixMilli()
		s.post(ctx, goredis.NewCmd(ctx, "zadd", s.ownedKey(w.Owner), until, packOwned(w)))
	}
}

// disown removes a wake that has ended from the list. It does not wait.
func (s *Store) disown(ctx context.Context, w *wake.Wake) {
	if w.Owner != "" {
		s.post(ctx, goredis.NewCmd(ctx, "zrem", s.ownedKey(w.Owner), packOwned(w)))
	}
}

func packOwned(w *wake.Wake) string { return wakeField(w.Node, w.Call) + "\x00" + w.AOR }

// Beat implements cluster.Store.
func (s *Store) Beat(ctx context.Context, instance string, ttl time.Duration) (living, dead []string, err error) {
	asked := time.Now()
	answer, err := s.run(ctx, s.beat, []string{s.aliveKey()}, instance, ttl.Milliseconds())
	if err != nil {
		return nil, nil, fmt.Errorf("cannot beat: %w", err)
	}
	a, ok := answer.([]any)
	if !ok || len(a) != 3 {
		return nil, nil, fmt.Errorf("cannot beat: %w", errAnswer)
	}
	text, _ := a[2].(string)
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot beat: %w", errAnswer)
	}
	s.clock.set(asked, time.UnixMicro(us))
	owned := s.ownedKey(instance)
	s.post(ctx, goredis.NewCmd(ctx, "zremrangebyscore", owned, "-inf", s.clock.toRedis(time.Now()).UnixMilli()))
	s.post(ctx, goredis.NewCmd(ctx, "pexpire", owned, ownedFor.Milliseconds()))
	return texts(a[0]), texts(a[1]), nil
}

func texts(answer any) []string {
	a, _ := answer.([]any)
	list := make([]string, 0, len(a))
	for _, v := range a {
		if s, ok := v.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

// Leave implements cluster.Store.
func (s *Store) Leave(ctx context.Context, instance string) error {
	if err := s.do(ctx, goredis.NewCmd(ctx, "zadd", s.aliveKey(), 0, instance)); err != nil {
		return fmt.Errorf("cannot leave: %w", s.unavailable(ctx, err))
	}
	return nil
}

// Adopt implements cluster.Store. A wake is added to its new owner's list before the
// owner is changed.
func (s *Store) Adopt(ctx context.Context, dead, owner string, f func(wake.Wake, wake.Started)) error {
	from := s.ownedKey(dead)
	for {
		list := goredis.NewStringSliceCmd(ctx, "zrange", from, 0, adoptBatch-1)
		if err := s.do(ctx, list); err != nil {
			return fmt.Errorf("cannot adopt wakes: %w", s.unavailable(ctx, err))
		}
		if len(list.Val()) == 0 {
			break
		}
		if err := s.adoptAll(ctx, list.Val(), dead, owner, f); err != nil {
			return fmt.Errorf("cannot adopt wakes: %w", err)
		}
		args := []any{"zrem", from}
		for _, member := range list.Val() {
			args = append(args, member)
		}
		if err := s.do(ctx, goredis.NewCmd(ctx, args...)); err != nil {
			return fmt.Errorf("cannot adopt wakes: %w", s.unavailable(ctx, err))
		}
	}
	if err := s.do(ctx, goredis.NewCmd(ctx, "zrem", s.aliveKey(), dead)); err != nil {
		return fmt.Errorf("cannot adopt wakes: %w", s.unavailable(ctx, err))
	}
	return nil
}

// adoptAll adopts the listed wakes that have not ended and still belong to the dead
// instance.
func (s *Store) adoptAll(ctx context.Context, members []string, dead, owner string, f func(wake.Wake, wake.Started)) error {
	values := make([]*goredis.StringCmd, len(members))
	futures := make([]*pending, len(members))
	for i, m := range members {
		node, call, aor := unpackOwned(m)
		_, t, _ := s.keys(aor)
		values[i] = goredis.NewStringCmd(ctx, "hget", t, "w"+wakeField(node, call))
		futures[i] = s.submit(ctx, values[i])
	}
	for i, m := range members {
		err := futures[i].wait()
		if errors.Is(err, goredis.Nil) {
			continue // it has ended
		}
		if err != nil {
			return s.unavailable(ctx, err)
		}
		if err := s.adoptOne(ctx, m, openValue(values[i].Val()), dead, owner, f); err != nil {
			return err
		}
	}
	return nil
}

// adoptOne adopts the wake if it belongs to the dead instance. Commands that the dead
// instance had sent may still change the value: then adoptOne tries again.
func (s *Store) adoptOne(ctx context.Context, member string, was []byte, dead, owner string, f func(wake.Wake, wake.Started)) error {
	node, call, aor := unpackOwned(member)
	for {
		w, err := s.decodeWake(aor, was)
		if err != nil {
			s.log.Error("wake cannot be read", "aor", aor, "err", err)
			return nil
		}
		if w.Owner != dead {
			return nil
		}
		w.Owner = owner
		st, err := s.take(ctx, w, was)
		if err != nil {
			return err
		}
		if !st.Ended {
			f(w, st)
			return nil
		}
		_, t, _ := s.keys(aor)
		again := goredis.NewStringCmd(ctx, "hget", t, "w"+wakeField(node, call))
		if err := s.do(ctx, again); errors.Is(err, goredis.Nil) {
			return nil // it has ended
		} else if err != nil {
			return s.unavailable(ctx, err)
		}
		if is := openValue(again.Val()); string(is) != string(was) {
			was = is
			continue
		}
		return nil // it has expired
	}
}

// openValue returns the value of a wake without the time in front of it.
func openValue(s string) []byte { return []byte(s[min(8, len(s)):]) }

func unpackOwned(member string) (node, call, aor string) {
	node, rest, _ := strings.Cut(member, "\x00")
	call, aor, _ = strings.Cut(rest, "\x00")
	return node, call, aor
}

// take sets the wake's new owner if the wake has not changed since it was read.
func (s *Store) take(ctx context.Context, w wake.Wake, was []byte) (wake.Started, error) {
	s.own(ctx, &w)
	is, err := s.appendWake(nil, w)
	if err != nil {
		return wake.Started{}, err
	}
	return s.retaken(ctx, w, was, is)
}

func (s *Store) retaken(ctx context.Context, w wake.Wake, was, is []byte) (wake.Started, error) {
	b, t, _ := s.keys(w.AOR)
	// A device that has registered since the wake started is awake. Compare by Redis' clock,
	// not by that of the instance that received the REGISTER.
	since := s.clock.toRedis(w.StartedAt)
	if recent := s.clock.toRedis(time.Now()).Add(-s.config.Recent); recent.Before(since) {
		since = recent
	}
	answer, err := s.run(ctx, s.retake, []string{b, t}, wakeField(w.Node, w.Call), was, is, since.UnixMicro(),
		s.config.Retention.Milliseconds())
	if err != nil {
		return wake.Started{}, err
	}
	if answer == nil {
		return wake.Started{Ended: true}, nil
	}
	st, err := started(w.AOR, answer)
	st.Forked = w.Forked
	return st, err
}

// Reread implements cluster.Store.
func (s *Store) Reread(ctx context.Context, w wake.Wake) (wake.Started, error) {
	_, t, _ := s.keys(w.AOR)
	cmd := goredis.NewStringCmd(ctx, "hget", t, "w"+wakeField(w.Node, w.Call))
	err := s.do(ctx, cmd)
	if errors.Is(err, goredis.Nil) {
		return wake.Started{Ended: true}, nil
	}
	if err != nil {
		return wake.Started{}, fmt.Errorf("cannot read wake of %q: %w", w.AOR, s.unavailable(ctx, err))
	}
	value := openValue(cmd.Val())
	now, err := s.decodeWake(w.AOR, value)
	if err != nil {
		return wake.Started{}, fmt.Errorf("cannot read wake of %q: %w", w.AOR, err)
	}
	if now.ID != w.ID || now.Owner != w.Owner {
		return wake.Started{Ended: true}, nil
	}
	w.Forked = now.Forked
	st, err := s.retaken(ctx, w, value, value)
	if err != nil {
		return wake.Started{}, fmt.Errorf("cannot read wake of %q: %w", w.AOR, err)
	}
	return st, nil
}

// Pushed implements cluster.Store.
func (s *Store) Pushed(w wake.Wake, device string) {
	ctx := context.Background()
	_, t, _ := s.keys(w.AOR)
	// Send the whole script: nobody waits who could send it if Redis does not have it.
	s.post(ctx, goredis.NewCmd(ctx, "eval", pushedScript, strconv.Itoa(1), t, wakeField(w.Node, w.Call), store.AppendPushed(nil, device)))
}

// Publish implements cluster.Store.
func (s *Store) Publish(n cluster.Message) {
	text, err := json.Marshal(n)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	ctx := context.Background()
	s.post(ctx, goredis.NewCmd(ctx, "publish", s.newsChannel(), text))
}

// Listen implements cluster.Store.
func (s *Store) Listen(ctx context.Context, f func(cluster.Message)) error {
	sub := s.client.Subscribe(ctx, s.newsChannel())
	defer func() { _ = sub.Close() }() // a failure does not matter
	// The subscription reconnects by itself.
	messages := sub.Channel()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return fmt.Errorf("cannot listen: %w", wake.ErrUnavailable)
			}
			var n cluster.Message
			if json.Unmarshal([]byte(m.Payload), &n) == nil { // otherwise it is from a newer sipwake
				f(n)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

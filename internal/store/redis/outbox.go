package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/store"
)

// outboxKey returns a key of the outbox. All its keys are in one slot, so that one
// script can take what is due and keep the order.
func (s *Store) outboxKey(name string) string { return s.config.Prefix + "o:{outbox}" + name }

// outboxArgs returns the arguments of the scripts for one message.
func (s *Store) outboxArgs(m *outbox.Message) (keys []string, args []any, err error) {
	value, err := store.AppendMessage(nil, m)
	if err != nil {
		return nil, nil, err
	}
	h, err := store.ReadMessageHead(value)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	keys = []string{s.outboxKey("due"), s.outboxKey("done"), s.outboxKey(":" + m.ID)}
	if m.Owner != "" {
		keys = append(keys, s.outboxKey("="+m.Owner))
	}
	return keys,
		[]any{flag(h.Done), micros(h.NextTry), micros(h.End()), strconv.FormatInt(h.End().UnixMilli(), 10), m.ID, value}, nil
}

// micros formats the time as a score, 0 if it is zero.
func micros(t time.Time) string { return strconv.FormatInt(max(t.UnixMicro(), 0), 10) }

// Put implements outbox.Store.
func (s *Store) Put(ctx context.Context, m outbox.Message) error {
	keys, args, err := s.outboxArgs(&m)
	var answer any
	if err == nil {
		answer, err = s.run(ctx, s.put, keys, append(args, s.config.Outbox, s.outboxKey(":"))...)
	}
	if err == nil {
		switch n, ok := answer.(int64); {
		case !ok:
			err = errAnswer
		case n < 0:
			s.metrics.rejected.Inc()
			if err = outbox.ErrFull; n == noShare {
				err = outbox.ErrShare
			}
		default:
			s.metrics.outbox.Store(n)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot put message %q: %w", m.ID, err)
	}
	return nil
}

// Update implements outbox.Store.
func (s *Store) Update(ctx context.Context, m outbox.Message) error {
	keys, args, err := s.outboxArgs(&m)
	if err == nil {
		_, err = s.run(ctx, s.update, keys, args...)
	}
	if err != nil {
		return fmt.Errorf("cannot update message %q: %w", m.ID, err)
	}
	return nil
}

// Message implements outbox.Store.
func (s *Store) Message(ctx context.Context, id string) (outbox.Message, bool, error) {
	value, err := s.get(ctx, s.outboxKey(":"+id))
	var m outbox.Message
	if err == nil && value != "" {
		m, err = store.DecodeMessage(id, []byte(value))
	}
	if err != nil {
		return outbox.Message{}, false, fmt.Errorf("cannot read message %q: %w", id, err)
	}
	return m, value != "", nil
}

// Messages implements outbox.Store. The cursor is the name of the sorted set and the
// position in it. A message that moves between the sets meanwhile may be returned
// twice, but is not missed.
func (s *Store) Messages(ctx context.Context, cursor string, limit int) (list []outbox.Message, next string, err error) {
	set, place := "due", uint64(0)
	if name, at, ok := strings.Cut(cursor, " "); ok && (name == "due" || name == "done") {
		set = name
		place, _ = strconv.ParseUint(at, 10, 64)
	}
	members, place, err := s.client.ZScan(ctx, s.outboxKey(set), place, "", int64(max(limit, 1))).Result()
	if err != nil {
		return nil, "", fmt.Errorf("cannot read messages: %w", s.unavailable(ctx, err))
	}
	switch {
	case place != 0:
		next = fmt.Sprint(set, " ", place)
	case set == "due":
		next = "done 0"
	}
	p := s.client.Pipeline()
	var values []*goredis.StringCmd
	for i := 0; i+1 < len(members); i += 2 { // a member, its score
		values = append(values, p.Get(ctx, s.outboxKey(":"+members[i])))
	}
	if len(values) > 0 {
		_, _ = p.Exec(ctx) // every command has its own error
	}
	unreadable := 0
	for i, v := range values {
		if errors.Is(v.Err(), goredis.Nil) {
			continue // it was removed meanwhile
		}
		if v.Err() != nil {
			return nil, "", fmt.Errorf("cannot read messages: %w", s.unavailable(ctx, v.Err()))
		}
		m, err := store.DecodeMessage(members[2*i], []byte(v.Val()))
		if err != nil {
			unreadable++
			continue
		}
		list = append(list, m)
	}
	if unreadable > 0 {
		s.log.Error("messages cannot be read", "count", unreadable)
	}
	return list, next, nil
}

// Due implements outbox.Store.
func (s *Store) Due(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]outbox.Message, error) {
	if limit = min(limit, store.MaxDue); limit <= 0 {
		return nil, nil
	}
	next := now.Add(max(lease, time.Millisecond))
	bytes := binary.BigEndian.AppendUint64(nil, uint64(max(next.UnixMicro(), 0)))
	answer, err := s.run(ctx, s.due, []string{s.outboxKey("due"), s.outboxKey("done")},
		micros(now), micros(next), bytes, limit, s.outboxKey(":"))
	if err != nil {
		return nil, fmt.Errorf("cannot read due messages: %w", err)
	}
	a, _ := answer.([]any)
	if len(a)%2 != 1 {
		return nil, fmt.Errorf("cannot read due messages: %w", errAnswer)
	}
	if n, ok := a[0].(int64); ok {
		s.metrics.outbox.Store(n)
	}
	var list []outbox.Message
	var unreadable error
	for i := 1; i < len(a); i += 2 {
		id, _ := a[i].(string)
		value, _ := a[i+1].(string)
		m, err := store.DecodeMessage(id, []byte(value))
		if err != nil {
			unreadable = errors.Join(unreadable, fmt.Errorf("%q: %w", id, err))
			continue
		}
		list = append(list, m)
	}
	if unreadable != nil { // do not fail the others: they are leased
		s.log.Error("messages cannot be read", "err", unreadable)
	}
	return list, nil
}

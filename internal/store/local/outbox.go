package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

func bucketMessages() []byte { return []byte("messages") }
func bucketDue() []byte      { return []byte("due") }
func bucketDone() []byte     { return []byte("done") }
func bucketWaiting() []byte  { return []byte("waiting") }

// cleanMost is how many ended messages each write also removes. It is more than any
// write adds.
const cleanMost = 16

// Put implements outbox.Store.
func (s *Store) Put(ctx context.Context, m outbox.Message) error {
	value, err := store.AppendMessage(nil, &m)
	full, share := false, false
	if err == nil {
		err = s.writer.do(ctx, func(tx *writeTx) error {
			o, now := openOutbox(tx), time.Now()
			full, share = false, false
			if findMessage(o.messages, m.ID, now) != nil {
				return nil
			}
			if err := o.clean(now, cleanMost); err != nil {
				return err
			}
			if share = m.Owner != "" && !m.Done() && o.hasShare(m.Owner, s.config.Outbox); share {
				return nil
			}
			var err error
			if full, err = o.full(s.config.Outbox); err != nil || full {
				return err
			}
			return o.store(m.ID, value)
		})
	}
	if err == nil && full {
		if s.messages() > uint64(s.config.Outbox) { // the outbox was larger before, or the count is wrong
			poke(s.writer.repair)
		}
		s.metrics.rejected.Inc()
		err = outbox.ErrFull
	}
	if err == nil && share {
		s.metrics.rejected.Inc()
		err = outbox.ErrShare
	}
	if err != nil {
		return fmt.Errorf("cannot put message %q: %w", m.ID, err)
	}
	return nil
}

// Update implements outbox.Store.
func (s *Store) Update(ctx context.Context, m outbox.Message) error {
	value, err := store.AppendMessage(nil, &m)
	if err == nil {
		err = s.writer.do(ctx, func(tx *writeTx) error {
			o := openOutbox(tx)
			if findMessage(o.messages, m.ID, time.Now()) == nil {
				return nil
			}
			return o.store(m.ID, value)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot update message %q: %w", m.ID, err)
	}
	return nil
}

// Message implements outbox.Store.
func (s *Store) Message(ctx context.Context, id string) (outbox.Message, bool, error) {
	var value []byte
	err := s.view(ctx, func(r reader) error {
		value = bytes.Clone(findMessage(r.table(bucketMessages()), id, time.Now()))
		return nil
	})
	var m outbox.Message
	if err == nil && value != nil {
		m, err = store.DecodeMessage(id, value)
	}
	if err != nil {
		return outbox.Message{}, false, fmt.Errorf("cannot read message %q: %w", id, err)
	}
	return m, value != nil, nil
}

// Messages implements outbox.Store. The cursor is the ID at which to continue.
func (s *Store) Messages(ctx context.Context, cursor string, limit int) (list []outbox.Message, next string, err error) {
	unreadable := 0
	err = s.view(ctx, func(r reader) error {
		list, next, unreadable = nil, "", 0
		now := time.Now()
		c := r.table(bucketMessages()).Cursor()
		for k, v := c.Seek([]byte(cursor)); k != nil; k, v = c.Next() {
			if len(list) == limit {
				next = string(k)
				return nil
			}
			h, err := store.ReadMessageHead(v)
			if err == nil && !now.Before(h.End()) {
				continue
			}
			m, err := store.DecodeMessage(string(k), v)
			if err != nil {
				unreadable++
				continue
			}
			list = append(list, m)
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("cannot read messages: %w", err)
	}
	if unreadable > 0 {
		s.log.Error("messages cannot be read", "count", unreadable)
	}
	return list, next, nil
}

// Due implements outbox.Store. If there is nothing to do, it writes nothing.
func (s *Store) Due(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]outbox.Message, error) {
	if limit = min(limit, store.MaxDue); limit <= 0 {
		return nil, nil
	}
	idle := false
	err := s.view(ctx, func(r reader) error {
		idle = len(first(r.table(bucketDue()), now, 1))+len(first(r.table(bucketDone()), time.Now(), 1)) == 0
		return nil
	})
	var list []outbox.Message
	unreadable := 0
	if err == nil && !idle {
		err = s.writer.do(ctx, func(tx *writeTx) error {
			o := openOutbox(tx)
			if err := o.clean(time.Now(), limit); err != nil {
				return err
			}
			var err error
			list, unreadable, err = o.lease(now, now.Add(max(lease, time.Millisecond)), limit)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read due messages: %w", err)
	}
	if unreadable > 0 {
		s.log.Error("messages cannot be read and were dropped", "count", unreadable)
	}
	return list, nil
}

// messages returns the number of messages.
func (s *Store) messages() (n uint64) {
	_ = s.view(context.Background(), func(r reader) error {
		n = r.table(bucketMessages()).Sequence()
		return nil
	})
	return n
}

// view calls f with the file for reading.
func (s *Store) view(ctx context.Context, f func(r reader) error) error {
	err := context.Cause(ctx)
	if err == nil {
		if s.closed.Load() {
			err = errClosed
		} else {
			err = s.read(f)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: cannot read file: %w", wake.ErrUnavailable, err)
	}
	return nil
}

// messageTables holds the four buckets within a write. A message has an entry in one
// of the two indexes. The entries in due are counted per owner.
type messageTables struct{ messages, due, done, waiting *table }

func openOutbox(tx *writeTx) messageTables {
	return messageTables{tx.table(bucketMessages()), tx.table(bucketDue()), tx.table(bucketDone()), tx.table(bucketWaiting())}
}

// findMessage returns the message's value, nil if the message is gone.
func findMessage(messages keyed, id string, now time.Time) []byte {
	v := messages.Get([]byte(id))
	if h, err := store.ReadMessageHead(v); err != nil || !now.Before(h.End()) {
		return nil
	}
	return v
}

// entry returns the index entry of the message with this head.
func (o *messageTables) entry(h store.MessageHead, id string) (*table, []byte) {
	index, key := messageEntry(h, id)
	if string(index) == string(bucketDone()) {
		return o.done, key
	}
	return o.due, key
}

// messageEntry returns the entry of a message in one of the two indexes.
func messageEntry(h store.MessageHead, id string) (index, key []byte) {
	if h.Done {
		return bucketDone(), timeKey(h.End(), id)
	}
	return bucketDue(), timeKey(h.NextTry, id)
}

// store replaces the old value by the new one.
func (o *messageTables) store(id string, value []byte) error {
	if err := o.remove(id); err != nil {
		return err
	}
	h, err := store.ReadMessageHead(value)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	index, key := o.entry(h, id)
	if err := index.Put(key, nil); err != nil {
		return err
	}
	if err := o.count(h, value, 1); err != nil {
		return err
	}
	if err := o.messages.Put([]byte(id), value); err != nil {
		return err
	}
	return o.messages.SetSequence(o.messages.Sequence() + 1)
}

// remove removes the message, if there is one, and its index entry.
func (o *messageTables) remove(id string) error {
	v := o.messages.Get([]byte(id))
	if v == nil {
		return nil
	}
	if h, err := store.ReadMessageHead(v); err == nil {
		index, key := o.entry(h, id)
		if err := index.Delete(key); err != nil {
			return err
		}
		if err := o.count(h, v, -1); err != nil {
			return err
		}
	}
	if err := o.messages.Delete([]byte(id)); err != nil {
		return err
	}
	return o.messages.SetSequence(o.messages.Sequence() - 1)
}

// waitingKey returns the key under which the unfinished messages of an owner are counted.
func waitingKey(owner string) []byte { return append([]byte{'='}, owner...) }

// count updates the count of the message's owner if the message is not done.
func (o *messageTables) count(h store.MessageHead, value []byte, by int64) error {
	if h.Done {
		return nil
	}
	key := waitingKey(store.MessageOwner(value))
	n := readCount(o.waiting.Get(key)) + by
	if n <= 0 { // negative: an older file had no counts
		return o.waiting.Delete(key)
	}
	return o.waiting.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func readCount(v []byte) int64 {
	if len(v) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(v))
}

// hasShare reports whether the owner has at least as many waiting messages as there is room left.
func (o *messageTables) hasShare(owner string, limit int) bool {
	left := int64(limit)
	o.waiting.each(func(k []byte) bool {
		left -= readCount(o.waiting.Get(k))
		return true
	})
	return readCount(o.waiting.Get(waitingKey(owner))) >= left
}

// clean removes some messages that are done and have ended.
func (o *messageTables) clean(now time.Time, most int) error {
	for _, k := range first(o.done, now, most) {
		if err := o.drop(o.done, k); err != nil {
			return err
		}
	}
	return nil
}

// drop removes an index entry and its message.
func (o *messageTables) drop(index *table, k []byte) error {
	fits := o.fits(index, k)
	if err := index.Delete(k); err != nil || !fits {
		return err
	}
	return o.remove(string(k[8:]))
}

// fits reports whether the entry matches its message. An unreadable message has no
// other entry.
func (o *messageTables) fits(index *table, k []byte) bool {
	v := o.messages.Get(k[8:])
	h, err := store.ReadMessageHead(v)
	if err != nil {
		return v != nil
	}
	at, key := o.entry(h, string(k[8:]))
	return at == index && bytes.Equal(key, k)
}

// full tries to make room and then reports whether there is none for another message.
func (o *messageTables) full(limit int) (bool, error) {
	for o.messages.Sequence() >= uint64(limit) {
		var oldest []byte
		o.done.each(func(k []byte) bool { oldest = bytes.Clone(k); return false })
		if oldest == nil {
			return true, nil
		}
		if err := o.drop(o.done, oldest); err != nil {
			return false, err
		}
	}
	return false, nil
}

// lease returns the messages due at now and makes them due again at next, which is
// later. It removes messages that have ended or cannot be read, and counts the latter.
func (o *messageTables) lease(now, next time.Time, limit int) (list []outbox.Message, unreadable int, err error) {
	for len(list) < limit {
		keys := first(o.due, now, limit-len(list))
		if len(keys) == 0 {
			break
		}
		for _, k := range keys {
			m, err := o.leaseOne(k, next)
			switch {
			case err == nil && m != nil:
				list = append(list, *m)
			case errors.Is(err, errUnreadable):
				unreadable++
			case err != nil:
				return nil, 0, err
			}
		}
	}
	return list, unreadable, nil
}

var errUnreadable = errors.New("message cannot be read")

// leaseOne returns nil if the message does not exist or no longer does. It also removes
// a message that cannot be read.
func (o *messageTables) leaseOne(k []byte, next time.Time) (*outbox.Message, error) {
	id := string(k[8:])
	value := bytes.Clone(findMessage(o.messages, id, time.Now()))
	if value == nil || !o.fits(o.due, k) {
		return nil, o.drop(o.due, k)
	}
	m, err := store.DecodeMessage(id, value)
	if err != nil {
		if err := o.drop(o.due, k); err != nil {
			return nil, err
		}
		return nil, errUnreadable
	}
	store.SetNextTry(value, next)
	m.NextTry = next.UTC().Truncate(time.Microsecond)
	return &m, o.store(id, value)
}

// timeKey returns a key that sorts by time.
func timeKey(t time.Time, name string) []byte {
	us := uint64(max(t.UnixMicro(), 0))
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(name)), us), name...)
}

// first returns copies of the keys at or before the time, oldest first.
func first(b keyed, until time.Time, most int) (keys [][]byte) {
	last := uint64(max(until.UnixMicro(), 0))
	b.each(func(k []byte) bool {
		if len(k) < 8 || len(keys) == most || binary.BigEndian.Uint64(k) > last {
			return false
		}
		keys = append(keys, bytes.Clone(k))
		return true
	})
	return keys
}

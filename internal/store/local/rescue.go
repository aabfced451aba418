package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/pagefile"
)

// Layout returns the layout of the store's file. From a damaged file it salvages bindings,
// refreshes, messages, notes, registrations at PBXs, claims and the token index. The other buckets
// are rebuilt from these.
func Layout() pagefile.Layout {
	return pagefile.Layout{Prepare: prepare, Place: place, Newer: newer, Finish: rebuild, Verify: verify}
}

// known reports whether there is a bucket with the name.
func known(bucket string) bool {
	return slices.ContainsFunc(buckets(), func(name []byte) bool { return string(name) == bucket })
}

// place keeps undamaged elements. It recognizes the elements of a bucket that has lost
// its name by their form.
func place(bucket string, k, v []byte) string {
	if known(bucket) {
		if whole(bucket, k, v) {
			return bucket
		}
		return ""
	}
	for _, bucket := range [][]byte{bucketBindings(), bucketMessages(), bucketNotes(), bucketUpper(), bucketRefreshes()} {
		if whole(string(bucket), k, v) {
			return string(bucket)
		}
	}
	return ""
}

// whole reports whether a key and its value can be used.
func whole(bucket string, k, v []byte) bool {
	switch bucket {
	case string(bucketBindings()):
		aor, device, ok := cutKey(k)
		return ok && len(aor) > 0 && len(device) > 0 && store.CheckBinding(v) == nil
	case string(bucketMessages()):
		_, err := store.DecodeMessage(string(k), v)
		return err == nil
	case string(bucketNotes()):
		return len(store.ReadNotes(v, time.Now())) > 0
	case string(bucketUpper()):
		u, err := store.DecodeUpper(v)
		return err == nil && u.AOR == string(k)
	case string(bucketTokens()):
		return len(k) == len(tokenHash{}) && len(store.ReadAORs(v)) > 0
	case string(bucketClaims()):
		return len(v) == 8
	case string(bucketRefreshes()):
		return len(k) == 8 && len(v) > 0 && len(v)%refreshSize == 0
	}
	return false
}

// newer reports whether the first of two values of a binding is the later one.
func newer(is, was []byte) bool {
	a, errA := store.ReadHead(is)
	b, errB := store.ReadHead(was)
	return errA == nil && (errB != nil || a.Registered.After(b.Registered))
}

// rebuild builds the indexes from the indexed data.
func rebuild(db *bbolt.DB) error {
	each := func(bucket []byte, f func(tx *bbolt.Tx, k, v []byte) error) error {
		return pagefile.Each(db, string(bucket), f)
	}
	return errors.Join(
		each(bucketBindings(), func(tx *bbolt.Tx, k, v []byte) error {
			aor, _, _ := cutKey(k)
			head, err := store.ReadHead(v)
			index := tx.Bucket(bucketTokens())
			for _, h := range tokens(head) {
				had := store.ReadAORs(index.Get(h[:]))
				if slices.Contains(had, string(aor)) {
					continue
				}
				list := store.WithAOR(had, string(aor), true)
				if err := index.Put(h[:], store.AppendAORs(nil, list)); err != nil {
					return err
				}
			}
			return err
		}),
		each(bucketTokens(), func(tx *bbolt.Tx, k, v []byte) error {
			if len(store.ReadAORs(v)) < 2 {
				return nil
			}
			return tx.Bucket(bucketShared()).Put(k, nil)
		}),
		each(bucketMessages(), func(tx *bbolt.Tx, k, v []byte) error {
			h, err := store.ReadMessageHead(v)
			if err != nil {
				return err
			}
			messages := tx.Bucket(bucketMessages())
			index, key := messageEntry(h, string(k))
			return errors.Join(tx.Bucket(index).Put(key, nil), messages.SetSequence(messages.Sequence()+1), countWaiting(tx, h, v))
		}),
		each(bucketUpper(), func(tx *bbolt.Tx, k, v []byte) error {
			return tx.Bucket(bucketUpperDue()).Put(timeKey(store.UpperDue(v), string(k)), nil)
		}),
		each(bucketClaims(), func(tx *bbolt.Tx, k, v []byte) error {
			return tx.Bucket(bucketClaimEnds()).Put(append(bytes.Clone(v), k...), nil)
		}))
}

// countWaiting is messageTables.count for a salvaged message.
func countWaiting(tx *bbolt.Tx, h store.MessageHead, v []byte) error {
	if h.Done {
		return nil
	}
	waiting, key := tx.Bucket(bucketWaiting()), waitingKey(store.MessageOwner(v))
	return waiting.Put(key, binary.BigEndian.AppendUint64(nil, uint64(readCount(waiting.Get(key))+1)))
}

// verify rejects the file of a newer sipwake: one with another format, unless its bindings
// are in the format of this version. It also checks the number of messages.
func verify(v *pagefile.View, report *pagefile.Report) error {
	if m, ok := report.Buckets[string(bucketMessages())]; ok && uint64(m.Keys) != m.Sequence {
		return fmt.Errorf("%w: the number of messages is wrong", pagefile.ErrDamaged)
	}
	strange := slices.ContainsFunc(slices.Collect(maps.Keys(report.Buckets)), func(name string) bool { return !known(name) })
	for i, name := range buckets() {
		// A file of an older sipwake has fewer buckets, one of a newer more.
		if _, ok := report.Buckets[string(name)]; !ok && (i < 3 || strange) {
			return fmt.Errorf("%w: it has no %s", pagefile.ErrDamaged, name)
		}
	}
	r := reader{v}
	says := string(r.table(bucketMeta()).Get([]byte("format")))
	_, value := r.table(bucketBindings()).Cursor().First()
	switch {
	case says == format:
		return nil
	case len(says) == 1 && says > format && says <= "9" && (len(value) == 0 || value[0] != store.Version):
		return errFormat
	}
	return fmt.Errorf("%w: it does not say of which version it is", pagefile.ErrDamaged)
}

// TracesLayout returns the layout of the traces file.
func TracesLayout() pagefile.Layout {
	return pagefile.Layout{Prepare: prepareTraces,
		Place: func(bucket string, _, _ []byte) string {
			if bucket == "meta" {
				return ""
			}
			return bucket
		},
		Finish: func(db *bbolt.DB) error {
			return pagefile.Each(db, "terms", func(tx *bbolt.Tx, _, _ []byte) error {
				terms := tx.Bucket([]byte("terms"))
				return terms.SetSequence(terms.Sequence() + 1)
			})
		},
		Verify: func(_ *pagefile.View, r *pagefile.Report) error {
			if terms := r.Buckets["terms"]; uint64(terms.Keys) != terms.Sequence {
				return fmt.Errorf("%w: the number of calls is wrong", pagefile.ErrDamaged)
			}
			return nil
		}}
}

package pagefile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// rescueBatch is how many keys one write of a rescue takes.
const rescueBatch = 5000

// Layout says what is in a kind of file.
type Layout struct {
	// Prepare makes the buckets of a new file.
	Prepare func(*bbolt.DB) error
	// Place returns the bucket where a key belongs that was read from a bucket, or
	// from nobody knows which (""); nowhere is "".
	Place func(bucket string, k, v []byte) string
	// Newer reports whether the first of two values of one key is the later one.
	// Without it the one that was read first stays.
	Newer func(is, was []byte) bool
	// Finish makes what follows from the rest, such as indexes.
	Finish func(*bbolt.DB) error
	// Verify looks at what the file says of itself. A plain error refuses it; one that
	// wraps ErrDamaged has it made anew.
	Verify func(v *View, r *Report) error
}

// Rescue writes what can be read of a file into a new one, which is whole and on the
// disk when it returns, or not there at all.
func Rescue(v *View, to string, l Layout) (report Report, err error) {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return report, err
	}
	db, err := bbolt.Open(to, 0o600, &bbolt.Options{NoSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return report, err
	}
	defer func() {
		if e := db.Close(); err == nil {
			err = e
		}
		if err != nil {
			_ = os.Remove(to)
		}
	}()
	if err := l.Prepare(db); err != nil {
		return report, err
	}
	r := rescuer{db: db, layout: l}
	report, err = v.Salvage(r.take)
	if err == nil {
		err = r.flush()
	}
	if err == nil && l.Finish != nil {
		err = l.Finish(db)
	}
	if err == nil {
		err = db.Sync()
	}
	return report, err
}

// rescuer puts keys into a new file.
type rescuer struct {
	db     *bbolt.DB
	layout Layout
	list   []rescued
}

type rescued struct {
	bucket     string
	key, value []byte
}

func (r *rescuer) take(bucket string, k, v []byte) error {
	if len(k) == 0 || len(k) > bbolt.MaxKeySize {
		return nil
	}
	if bucket = r.layout.Place(bucket, k, v); bucket == "" {
		return nil
	}
	r.list = append(r.list, rescued{bucket, bytes.Clone(k), append([]byte{}, v...)})
	if len(r.list) < rescueBatch {
		return nil
	}
	return r.flush()
}

func (r *rescuer) flush() error {
	list := r.list
	r.list = nil
	return r.db.Update(func(tx *bbolt.Tx) error {
		for _, e := range list {
			b := tx.Bucket([]byte(e.bucket))
			if b == nil {
				continue
			}
			if was := b.Get(e.key); was != nil && (r.layout.Newer == nil || !r.layout.Newer(e.value, was)) {
				continue
			}
			if err := b.Put(e.key, e.value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Each calls f with every key of a bucket, in writes that are not too large. f may
// change other buckets.
func Each(db *bbolt.DB, bucket string, f func(tx *bbolt.Tx, k, v []byte) error) error {
	for from := []byte{}; from != nil; {
		err := db.Update(func(tx *bbolt.Tx) error {
			c, n := tx.Bucket([]byte(bucket)).Cursor(), 0
			k, v := c.Seek(from)
			for from = nil; k != nil; k, v = c.Next() {
				if n++; n > rescueBatch {
					from = bytes.Clone(k)
					return nil
				}
				if err := f(tx, bytes.Clone(k), bytes.Clone(v)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Open opens or makes a file with bbolt. What goes wrong is an error, also where bbolt
// panics. ErrInUse is that of a file that another process has open for longer than
// the patience.
func Open(path string, patience time.Duration, room int, prepare func(*bbolt.DB) error) (db *bbolt.DB, err error) {
	defer Recover(&err)()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: patience, FreelistType: bbolt.FreelistMapType, InitialMmapSize: room})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		err = ErrInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	case err == nil:
		if err = prepare(db); err != nil {
			_ = db.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

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

// rescueBatch is how many keys a rescue writes at a time.
const rescueBatch = 5000

// Layout describes the contents of a type of file.
type Layout struct {
	// Prepare creates the buckets of a new file.
	Prepare func(*bbolt.DB) error
	// Place returns the bucket that a key belongs to, "" if it belongs to none. bucket
	// is where the key was read, "" if that is unknown.
	Place func(bucket string, k, v []byte) string
	// Newer reports whether the first of two values of a key is the later one. If Newer
	// is nil, the value that was read first is kept.
	Newer func(is, was []byte) bool
	// Finish builds data that is derived from the rest, such as indexes.
	Finish func(*bbolt.DB) error
	// Verify checks what the file says about itself. An error that wraps ErrDamaged
	// makes the file be rebuilt; any other error rejects it.
	Verify func(v *View, r *Report) error
}

// Rescue writes what can be read of a file to a new one. When it returns, the new file is
// complete and on disk, or does not exist at all.
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

// rescuer writes keys to a new file.
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

// Each calls f with every key of a bucket, in write transactions of limited size. f may
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

// Open opens or creates a file with bbolt. A panic of bbolt is returned as an error. The
// error is ErrInUse if another process has the file open for longer than the patience.
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

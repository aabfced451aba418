package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/store"
	"github.com/sipwake/sipwake/store/pagefile"
)

const (
	// rescueBatch is how many keys one write of a rescue takes.
	rescueBatch = 5000
	// keepDamaged is how many damaged files are kept; each is as large as the store.
	keepDamaged = 3
)

// rescue writes what can be read of a store's file into a new one, which is there and
// on the disk when it returns, or not at all.
func rescue(v *pagefile.View, to string) (report pagefile.Report, err error) {
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
	if err := prepare(db); err != nil {
		return report, err
	}
	r := rescuer{db: db}
	if report, err = v.Salvage(r.take); err == nil {
		err = errors.Join(r.flush(), r.rebuild(), db.Sync())
	}
	return report, err
}

// rescuer puts keys into a new file.
type rescuer struct {
	db   *bbolt.DB
	list []rescued
}

type rescued struct{ bucket, key, value []byte }

// take keeps what is whole. The other buckets follow from these: see rebuild.
func (r *rescuer) take(name string, k, v []byte) error {
	bucket := []byte(name)
	switch {
	case name == "":
		if bucket = belongs(k, v); bucket == nil {
			return nil
		}
	case !whole(name, k, v):
		return nil
	}
	r.list = append(r.list, rescued{bucket, bytes.Clone(k), append([]byte{}, v...)})
	if len(r.list) < rescueBatch {
		return nil
	}
	return r.flush()
}

// whole reports whether a key and its value can be used.
func whole(bucket string, k, v []byte) bool {
	if len(k) == 0 || len(k) > bbolt.MaxKeySize {
		return false
	}
	switch bucket {
	case string(bucketBindings()):
		aor, device, ok := cutKey(k)
		if !ok || len(aor) == 0 || len(device) == 0 {
			return false
		}
		_, err := store.DecodeBinding(string(aor), string(device), v)
		return err == nil
	case string(bucketMessages()):
		_, err := store.DecodeMessage(string(k), v)
		return err == nil
	case string(bucketNotes()):
		return len(store.ReadNotes(v, time.Now())) > 0
	case string(bucketTokens()):
		return len(k) == len(tokenHash{}) && len(store.ReadAORs(v)) > 0
	case string(bucketClaims()):
		return len(v) == 8
	}
	return false
}

// belongs returns the bucket that the key must be from, nil if it cannot be told.
func belongs(k, v []byte) []byte {
	for _, bucket := range [][]byte{bucketBindings(), bucketMessages(), bucketNotes()} {
		if whole(string(bucket), k, v) {
			return bucket
		}
	}
	return nil
}

func (r *rescuer) flush() error {
	list := r.list
	r.list = nil
	return r.db.Update(func(tx *bbolt.Tx) error {
		for _, e := range list {
			b := tx.Bucket(e.bucket)
			if was := b.Get(e.key); was != nil && !newer(e.value, was) {
				continue
			}
			if err := b.Put(e.key, e.value); err != nil {
				return err
			}
		}
		return nil
	})
}

// newer reports whether one of two values of a binding is the later one.
func newer(is, was []byte) bool {
	a, errA := store.ReadHead(is)
	b, errB := store.ReadHead(was)
	return errA == nil && (errB != nil || a.Registered.After(b.Registered))
}

// rebuild makes the indexes from what they are of.
func (r *rescuer) rebuild() error {
	return errors.Join(
		r.eachOf(bucketBindings(), func(tx *bbolt.Tx, k, v []byte) error {
			aor, _, _ := cutKey(k)
			hashes, err := tokens(v)
			index := tx.Bucket(bucketTokens())
			for _, h := range hashes {
				list := store.WithAOR(store.ReadAORs(index.Get(h[:])), string(aor), true)
				if err := index.Put(h[:], store.AppendAORs(nil, list)); err != nil {
					return err
				}
			}
			return err
		}),
		r.eachOf(bucketTokens(), func(tx *bbolt.Tx, k, v []byte) error {
			if len(store.ReadAORs(v)) < 2 {
				return nil
			}
			return tx.Bucket(bucketShared()).Put(k, nil)
		}),
		r.eachOf(bucketMessages(), func(tx *bbolt.Tx, k, v []byte) error {
			h, err := store.ReadMessageHead(v)
			if err != nil {
				return err
			}
			messages := tx.Bucket(bucketMessages())
			index, key := messageEntry(h, string(k))
			return errors.Join(tx.Bucket(index).Put(key, nil), messages.SetSequence(messages.Sequence()+1))
		}),
		r.eachOf(bucketClaims(), func(tx *bbolt.Tx, k, v []byte) error {
			return tx.Bucket(bucketClaimEnds()).Put(append(bytes.Clone(v), k...), nil)
		}))
}

// eachOf calls f with every key of a bucket, in writes that are not too large.
func (r *rescuer) eachOf(bucket []byte, f func(tx *bbolt.Tx, k, v []byte) error) error {
	for from := []byte{}; from != nil; {
		err := r.db.Update(func(tx *bbolt.Tx) error {
			c, n := tx.Bucket(bucket).Cursor(), 0
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

// setAside gives a damaged file another name, which it returns, and lets the new one,
// if there is one, take its place in one step. Of those that were set aside before,
// the oldest go.
func setAside(path, fresh string, now time.Time) (aside string, err error) {
	aside = path + ".damaged-" + now.UTC().Format("20060102T150405.000")
	if fresh == "" {
		err = os.Rename(path, aside)
	} else {
		err = errors.Join(os.Link(path, aside), os.Rename(fresh, path))
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return "", fmt.Errorf("cannot set the damaged file aside: %w", err)
	}
	dropAside(path)
	return aside, nil
}

func dropAside(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	var old []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".damaged-") {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for _, name := range old[:max(len(old)-keepDamaged, 0)] {
		_ = os.Remove(filepath.Join(filepath.Dir(path), name))
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

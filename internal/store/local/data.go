package local

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store/pagefile"
	"github.com/sipwake/sipwake/internal/wake"
)

// data is the open file. bbolt writes it, one goroutine at a time, and pagefile reads
// it: bbolt ends the process over some bytes, whatever is recovered.
//
// The file has two states that can be read, for a write changes no page of the last
// two: the newest one, and the one before while a reader is left there. A write waits
// for those.
type data struct {
	db      *bbolt.DB
	raw     *os.File
	newest  atomic.Pointer[pagefile.Meta]
	pages   *pagefile.Cache
	reading [2]sync.RWMutex // by the last bit of the state's number
	stuck   atomic.Bool     // bbolt holds locks that nobody will release
}

// openData opens what bbolt has opened once more, to read it.
func openData(db *bbolt.DB) (*data, error) {
	raw, err := os.Open(db.Path())
	if err != nil {
		return nil, err
	}
	d := &data{db: db, raw: raw, pages: pagefile.NewCache()}
	if err := d.refresh(); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return d, nil
}

// refresh notes the newest state. Its number must be the last one's, or the next.
func (d *data) refresh() error {
	m, _, err := pagefile.ReadMetas(d.raw)
	if err == nil {
		d.newest.Store(&m)
	}
	return err
}

// current returns an error if the file does not begin with the newest state any more:
// bbolt would go back to the one before, and give pages away that are in use.
func (d *data) current() error {
	m, _, err := pagefile.ReadMetas(d.raw)
	if err == nil && m != *d.newest.Load() {
		err = fmt.Errorf("%w: its newest state is gone", pagefile.ErrDamaged)
	}
	return err
}

// view calls f with the newest state.
func (d *data) view(f func(v *pagefile.View) error) error {
	for {
		m := d.newest.Load()
		mu := &d.reading[m.Tx&1]
		mu.RLock()
		if d.newest.Load() != m {
			mu.RUnlock()
			continue
		}
		defer mu.RUnlock()
		v := pagefile.NewCachedView(d.raw, *m, d.pages)
		err := f(v)
		return errors.Join(v.Err(), err)
	}
}

// update does f in a write. What bbolt would stumble over is found before, by the
// tables that f goes through; a panic is an error nevertheless.
func (d *data) update(f func(tx *writeTx) error) (err error) {
	m := *d.newest.Load()
	next := &d.reading[(m.Tx+1)&1]
	next.Lock()
	defer next.Unlock()
	if err := d.current(); err != nil {
		return err
	}
	guard, err := pagefile.NewGuard(pagefile.NewView(d.raw, m))
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			d.stuck.Store(true)
		}
	}()
	defer pagefile.Recover(&err)()
	err = d.db.Update(func(tx *bbolt.Tx) error {
		w := &writeTx{tx: tx, guard: guard}
		return errors.Join(w.err, f(w), w.err)
	})
	if err == nil {
		err = d.refresh()
	}
	done = true
	return err
}

// close closes the file once nobody reads it.
func (d *data) close() error {
	for i := range d.reading {
		d.reading[i].Lock()
		defer d.reading[i].Unlock()
	}
	_ = d.raw.Close()
	if d.stuck.Load() {
		return nil // it cannot be closed any more
	}
	return d.db.Close()
}

// writeTx is a write. After an error it does nothing any more.
type writeTx struct {
	tx    *bbolt.Tx
	guard *pagefile.Guard
	err   error
}

// table returns a bucket.
func (w *writeTx) table(name []byte) *table {
	t := &table{w: w, name: string(name)}
	if w.fine(w.guard.Bucket(t.name)) {
		t.b = w.tx.Bucket(name)
	}
	if t.b == nil && w.err == nil {
		w.err = fmt.Errorf("%w: it has no %q", pagefile.ErrDamaged, name)
	}
	return t
}

func (w *writeTx) fine(err error) bool {
	if w.err == nil {
		w.err = err
	}
	return w.err == nil
}

// table is a bucket whose pages are looked at before bbolt does.
type table struct {
	w    *writeTx
	b    *bbolt.Bucket
	name string
}

// safe reports whether bbolt may go to the key: see pagefile.Guard.
func (t *table) safe(key []byte, beside bool) bool {
	return t.w.err == nil && t.w.fine(t.w.guard.Key(t.name, key, beside))
}

// Get returns the value, nil if there is none.
func (t *table) Get(key []byte) []byte {
	if !t.safe(key, false) {
		return nil
	}
	return t.b.Get(key)
}

// Put writes the value.
func (t *table) Put(key, value []byte) error {
	if !t.safe(key, false) {
		return t.w.err
	}
	return t.b.Put(key, value)
}

// Delete removes the key, if it is there.
func (t *table) Delete(key []byte) error {
	if !t.safe(key, true) {
		return t.w.err
	}
	return t.b.Delete(key)
}

// Sequence returns the bucket's number.
func (t *table) Sequence() uint64 {
	if t.w.err != nil {
		return 0
	}
	return t.b.Sequence()
}

// SetSequence sets it.
func (t *table) SetSequence(n uint64) error {
	if t.w.err != nil {
		return t.w.err
	}
	return t.b.SetSequence(n)
}

// each calls f with the keys in order until it returns false.
func (t *table) each(f func(k []byte) bool) {
	if !t.safe(nil, true) {
		return
	}
	c := t.b.Cursor()
	for k, _ := c.First(); k != nil && t.safe(k, true) && f(k); k, _ = c.Next() {
	}
}

// readTable is a bucket that is only read.
type readTable struct{ *pagefile.Bucket }

// each is table.each.
func (t readTable) each(f func(k []byte) bool) {
	c := t.Cursor()
	for k, _ := c.First(); k != nil && f(k); k, _ = c.Next() {
	}
}

// keyed is what reads and writes look things up in.
type keyed interface {
	Get(key []byte) []byte
	each(f func(k []byte) bool)
}

// reader is the read of a state.
type reader struct{ v *pagefile.View }

func (r reader) table(name []byte) readTable { return readTable{r.v.Bucket(string(name))} }

// read calls f with the newest state of the file. Damage is an error, and has the file
// made anew.
func (s *Store) read(f func(r reader) error) error {
	for {
		d := s.data.Load()
		err := d.view(func(v *pagefile.View) error { return f(reader{v}) })
		if err == nil || !errors.Is(err, pagefile.ErrDamaged) && !errors.Is(err, os.ErrClosed) {
			return err
		}
		if s.data.Load() != d {
			continue // it was made anew meanwhile
		}
		s.metrics.errors.Inc()
		poke(s.writer.repair)
		return fmt.Errorf("%w: %w", wake.ErrUnavailable, err)
	}
}

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

// data is the open file. bbolt writes it, one goroutine at a time. pagefile reads it,
// because some damaged bytes make bbolt end the process in a way that recover cannot stop.
//
// Two states of the file are readable, because a write changes no page of the last two:
// the newest, and the one before it as long as it has readers. A write waits for those
// readers.
type data struct {
	db      *bbolt.DB
	raw     *os.File
	newest  atomic.Pointer[pagefile.Meta]
	pages   *pagefile.Cache
	reading [2]sync.RWMutex // indexed by the last bit of the state's number
	stuck   atomic.Bool     // bbolt holds locks that will never be released
}

// openData opens bbolt's file a second time, for reading.
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

// refresh records the newest state. Its number must be that of the last state or one higher.
func (d *data) refresh() error {
	m, _, err := pagefile.ReadMetas(d.raw)
	if err == nil {
		d.newest.Store(&m)
	}
	return err
}

// current returns an error if the file no longer begins with the newest state. bbolt
// would go back to the state before it and reuse pages that are in use.
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

// update runs f in a write transaction. The tables that f uses check the pages for damage
// before bbolt reads them. A panic is still turned into an error.
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

// close closes the file once it has no readers.
func (d *data) close() error {
	for i := range d.reading {
		d.reading[i].Lock()
		defer d.reading[i].Unlock()
	}
	_ = d.raw.Close()
	if d.stuck.Load() {
		return nil // it can no longer be closed
	}
	return d.db.Close()
}

// writeTx is a write transaction. After an error it does nothing more.
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

// table is a bucket whose pages are checked before bbolt reads them.
type table struct {
	w    *writeTx
	b    *bbolt.Bucket
	name string
}

// safe reports whether bbolt can safely go to the key: see pagefile.Guard.
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

// Fill has pages filled as keys are added in ascending order. By default a page that is
// split is left half full, for keys in between.
func (t *table) Fill() {
	if t.w.err == nil {
		t.b.FillPercent = 1
	}
}

// Sequence returns the bucket's sequence number.
func (t *table) Sequence() uint64 {
	if t.w.err != nil {
		return 0
	}
	return t.b.Sequence()
}

// SetSequence sets the bucket's sequence number.
func (t *table) SetSequence(n uint64) error {
	if t.w.err != nil {
		return t.w.err
	}
	return t.b.SetSequence(n)
}

// each calls f with each key in order until f returns false.
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

// each works like table.each.
func (t readTable) each(f func(k []byte) bool) {
	c := t.Cursor()
	for k, _ := c.First(); k != nil && f(k); k, _ = c.Next() {
	}
}

// keyed is the interface for lookups, in reads and in writes.
type keyed interface {
	Get(key []byte) []byte
	each(f func(k []byte) bool)
}

// reader reads one state of the file.
type reader struct{ v *pagefile.View }

func (r reader) table(name []byte) readTable { return readTable{r.v.Bucket(string(name))} }

// read calls f with the newest state of the file. Damage is an error and makes the writer
// rebuild the file.
func (s *Store) read(f func(r reader) error) error {
	for {
		d := s.data.Load()
		err := d.view(func(v *pagefile.View) error { return f(reader{v}) })
		if err == nil || !errors.Is(err, pagefile.ErrDamaged) && !errors.Is(err, os.ErrClosed) {
			return err
		}
		if s.data.Load() != d {
			continue // the file was rebuilt meanwhile
		}
		s.metrics.errors.Inc()
		poke(s.writer.repair)
		return fmt.Errorf("%w: %w", wake.ErrUnavailable, err)
	}
}

package fallback

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/pagefile"
	"github.com/sipwake/sipwake/internal/wake"
)

const (
	// maxShare is how many sipwakes can share a directory: each has a file.
	maxShare = 16
	// maxWaiting is how many registrations may wait to be written to disk.
	maxWaiting = 8192
	// maxBegun is how often a damaged file is started over while the service runs.
	maxBegun = 5
)

var errShared = fmt.Errorf("%d processes use it already", maxShare)

// spool keeps registrations on disk, in the order in which they came: the last one of
// each device, and also an un-REGISTER together with the REGISTER before it, which the
// store may not know.
//
// The file has one bucket: 8 bytes number -> version (1), AOR (2+n), registration
// (package store).
type spool struct {
	size    int
	log     *slog.Logger
	metrics *metrics
	done    sync.WaitGroup

	file   sync.Mutex // protects the following fields, also during reads and writes
	db     *bbolt.DB
	begun  int // how often it was started over
	index  map[spoolKey]uint64
	length atomic.Int64 // of the index

	mu      sync.Mutex  // never held during a write
	next    *spoolBatch // being filled
	ready   chan struct{}
	closing bool
}

// spoolKey is a hash of AOR, device, and whether the registration is an un-REGISTER
// that keeps the binding.
type spoolKey [17]byte

type spoolBatch struct {
	list []wake.Registration
	done chan struct{} // closed when it is on disk
}

func newBatch() *spoolBatch { return &spoolBatch{done: make(chan struct{})} }

func bucketSpool() []byte { return []byte("registrations") }

func openSpool(dir string, size int, log *slog.Logger, m *metrics) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: cannot make directory: %w", err)
	}
	db, err := openFile(dir, log)
	if err != nil {
		return nil, fmt.Errorf("spool: cannot open %q: %w", dir, err)
	}
	s := &spool{db: db, size: size, log: log, metrics: m, next: newBatch(), ready: make(chan struct{}, 1)}
	if err := s.load(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("spool: cannot read %q: %w", db.Path(), err)
	}
	s.done.Go(s.write)
	return s, nil
}

// openFile opens the first file of the directory that no other process has open. It
// rebuilds a damaged file from what can be read.
func openFile(dir string, log *slog.Logger) (*bbolt.DB, error) {
	for n := range maxShare {
		path := filepath.Join(dir, fmt.Sprintf("spool-%d.db", n))
		f, err := pagefile.Mend(path, time.Millisecond, SpoolLayout())
		if errors.Is(err, pagefile.ErrInUse) {
			continue
		}
		if f != nil {
			log.Error("the spool was damaged and made anew", "what", f.What(), "file", path, "damaged", f.Aside, "problem", f.Why)
		}
		if err != nil {
			return nil, err
		}
		db, err := pagefile.Open(path, time.Millisecond, 0, prepareSpool)
		if errors.Is(err, pagefile.ErrInUse) {
			continue
		}
		return db, err
	}
	return nil, errShared
}

func prepareSpool(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketSpool())
		return err
	})
}

// SpoolLayout returns the layout of a spool file.
func SpoolLayout() pagefile.Layout {
	name := string(bucketSpool())
	return pagefile.Layout{Prepare: prepareSpool,
		Place: func(bucket string, k, v []byte) string {
			if _, err := decodeSpooled(v); err != nil || len(k) != 8 || bucket != "" && bucket != name {
				return ""
			}
			return name
		},
		Finish: func(db *bbolt.DB) error {
			return db.Update(func(tx *bbolt.Tx) error {
				b := tx.Bucket(bucketSpool())
				last, _ := b.Cursor().Last()
				if last == nil {
					return nil
				}
				return b.SetSequence(binary.BigEndian.Uint64(last))
			})
		}}
}

// do runs f in a transaction. If a damaged page makes bbolt panic, do returns an error
// and the file is started over. The caller must hold the file's lock.
func (s *spool) do(run func(*bbolt.DB, func(*bbolt.Tx) error) error, f func(b *bbolt.Bucket) error) error {
	err := s.attempt(run, f)
	if !errors.Is(err, pagefile.ErrDamaged) {
		return err
	}
	if s.begun++; s.begun > maxBegun {
		return fmt.Errorf("it is damaged again and again; look at the disk: %w", err)
	}
	path := s.db.Path()
	aside, renewErr := pagefile.SetAside(path)
	if renewErr == nil {
		var db *bbolt.DB
		if db, renewErr = pagefile.Open(path, time.Millisecond, 0, prepareSpool); renewErr == nil {
			s.db, s.index = db, make(map[spoolKey]uint64)
			s.length.Store(0)
		}
	}
	s.log.Error("the spool is damaged, and began anew", "file", path, "damaged", aside, "problem", err, "err", renewErr)
	return err
}

func (s *spool) attempt(run func(*bbolt.DB, func(*bbolt.Tx) error) error, f func(b *bbolt.Bucket) error) (err error) {
	defer pagefile.Recover(&err)()
	return run(s.db, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketSpool())
		if b == nil {
			return pagefile.ErrDamaged
		}
		return f(b)
	})
}

// load builds the index from the file. The caller must hold the file's lock.
func (s *spool) load() error {
	index := make(map[spoolKey]uint64)
	err := s.do((*bbolt.DB).View, func(b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if r, err := decodeSpooled(v); err == nil && len(k) == 8 {
				index[keyOf(&r)] = binary.BigEndian.Uint64(k)
			}
			return nil
		})
	})
	s.index = index
	s.length.Store(int64(len(index)))
	return err
}

func (s *spool) len() int { return int(s.length.Load()) }

// close writes the waiting registrations and closes the file.
func (s *spool) close() error {
	s.mu.Lock()
	was := s.closing
	s.closing = true
	s.mu.Unlock()
	if was {
		return nil
	}
	s.signal()
	s.done.Wait()
	s.file.Lock()
	defer s.file.Unlock()
	if s.begun > maxBegun {
		return nil // bbolt may never release it
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("cannot close spool: %w", err)
	}
	return nil
}

func (s *spool) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// add adds the registration and waits until it is on disk or ctx ends.
func (s *spool) add(ctx context.Context, r *wake.Registration) {
	s.mu.Lock()
	b := s.next
	if s.closing || len(b.list) >= maxWaiting {
		s.mu.Unlock()
		s.metrics.drop(droppedBusy, 1)
		return
	}
	b.list = append(b.list, *r)
	s.mu.Unlock()
	s.signal()
	select {
	case <-b.done:
	case <-ctx.Done():
	}
}

// write writes one batch after the other: all waiting registrations share one.
func (s *spool) write() {
	for {
		<-s.ready
		s.mu.Lock()
		b, closing := s.next, s.closing
		s.next = newBatch()
		s.mu.Unlock()
		if len(b.list) > 0 {
			if err := s.put(b.list); err != nil {
				s.metrics.drop(droppedDisk, len(b.list))
				s.log.Error("cannot write spool", "registrations", len(b.list), "err", err)
			} else {
				s.metrics.spooled.Add(float64(len(b.list)))
			}
		}
		close(b.done)
		if closing {
			return
		}
	}
}

// put writes the registrations. An error leaves the spool as it was.
func (s *spool) put(list []wake.Registration) error {
	s.file.Lock()
	defer s.file.Unlock()
	dropped := 0
	err := s.do((*bbolt.DB).Update, func(b *bbolt.Bucket) error {
		for i := range list {
			if err := s.putOne(b, &list[i]); err != nil {
				return err
			}
		}
		c := b.Cursor()
		for k, v := c.First(); k != nil && len(s.index) > s.size; k, v = c.First() {
			if r, err := decodeSpooled(v); err == nil {
				delete(s.index, keyOf(&r))
			}
			if err := c.Delete(); err != nil {
				return err
			}
			dropped++
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, s.load())
	}
	s.length.Store(int64(len(s.index)))
	s.metrics.drop(droppedFull, dropped)
	return nil
}

func (s *spool) putOne(b *bbolt.Bucket, r *wake.Registration) error {
	value := binary.BigEndian.AppendUint16([]byte{store.Version}, uint16(len(r.AOR)))
	value, _, err := store.AppendRegistration(append(value, r.AOR...), r, time.Time{})
	if err != nil {
		return nil // no store would accept it
	}
	key := keyOf(r)
	for _, old := range []spoolKey{key.of(false), key.of(true)} {
		seq, ok := s.index[old]
		if !ok {
			continue
		}
		at := binary.BigEndian.AppendUint64(nil, seq)
		if was, err := decodeSpooled(b.Get(at)); err == nil && was.CallID == r.CallID && was.CSeq > r.CSeq {
			return nil
		}
	}
	for _, old := range []spoolKey{key.of(false), key.of(true)} {
		if seq, ok := s.index[old]; ok && (old == key || !key.keeps()) {
			if err := b.Delete(binary.BigEndian.AppendUint64(nil, seq)); err != nil {
				return err
			}
			delete(s.index, old)
		}
	}
	seq, err := b.NextSequence()
	if err != nil {
		return err
	}
	s.index[key] = seq
	return b.Put(binary.BigEndian.AppendUint64(nil, seq), value)
}

// spooled is a registration with its number in the spool.
type spooled struct {
	seq uint64
	wake.Registration
	unreadable bool
}

// read returns up to n registrations, starting with the number from.
func (s *spool) read(from uint64, n int) ([]spooled, error) {
	s.file.Lock()
	defer s.file.Unlock()
	var list []spooled
	err := s.do((*bbolt.DB).View, func(b *bbolt.Bucket) error {
		c := b.Cursor()
		for k, v := c.Seek(binary.BigEndian.AppendUint64(nil, from)); k != nil && len(list) < n; k, v = c.Next() {
			r, err := decodeSpooled(v)
			if len(k) != 8 {
				continue
			}
			list = append(list, spooled{binary.BigEndian.Uint64(k), r, err != nil})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read spool: %w", err)
	}
	return list, nil
}

// remove removes registrations that the store has accepted.
func (s *spool) remove(list []spooled) error {
	if len(list) == 0 {
		return nil
	}
	s.file.Lock()
	defer s.file.Unlock()
	err := s.do((*bbolt.DB).Update, func(b *bbolt.Bucket) error {
		for _, r := range list {
			if err := b.Delete(binary.BigEndian.AppendUint64(nil, r.seq)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot write spool: %w", err)
	}
	for _, r := range list {
		if key := keyOf(&r.Registration); s.index[key] == r.seq {
			delete(s.index, key)
		}
	}
	s.length.Store(int64(len(s.index)))
	return nil
}

func keyOf(r *wake.Registration) (k spoolKey) {
	sum := sha256.Sum256([]byte(r.AOR + "\x00" + r.Device))
	copy(k[:], sum[:16])
	return k.of(r.Gone && r.Action == wake.ActionBind)
}

// of returns the key for the same device: that of an un-REGISTER that keeps the binding,
// or that of any other registration.
func (k spoolKey) of(keeps bool) spoolKey {
	if k[16] = 0; keeps {
		k[16] = 1
	}
	return k
}

func (k spoolKey) keeps() bool { return k[16] == 1 }

var errSpooled = errors.New("it is damaged or was written by a newer sipwake")

func decodeSpooled(v []byte) (wake.Registration, error) {
	if len(v) < 3 || v[0] != store.Version || len(v) < 3+int(binary.BigEndian.Uint16(v[1:])) {
		return wake.Registration{}, errSpooled
	}
	n := 3 + int(binary.BigEndian.Uint16(v[1:]))
	return store.DecodeRegistration(string(v[3:n]), v[n:])
}

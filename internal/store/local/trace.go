package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/pagefile"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
)

// Traces is a trace.Store in a separate file: its writes never delay a binding, and
// damage to it loses nothing but old traces.
//
// A call's place is its start time, in 8 bytes, and its ID. The buckets:
//
//	parts   place, 0, instance -> value (package store)
//	terms   place -> 2+n AOR, and 4 bytes for each term of the call; its sequence is
//	        how many calls there are
//	meta    "format" -> "2"
//
// There is no index, because each index entry would be another page to write. A search
// scans the terms, which takes a tenth of a microsecond per call.
type Traces struct {
	config trace.Config
	path   string
	log    *slog.Logger

	mu     sync.RWMutex // protects db; readers of db hold the read lock
	db     *bbolt.DB
	begun  int  // how often it was started over
	broken bool // it is not started over any more

	rooms sync.Pool // *[]byte
}

var _ trace.Store = (*Traces)(nil)

const tracesFormat = "2"

func traceBuckets() []string { return []string{"parts", "terms", "meta"} }

// TracesPath returns the path of the traces file, next to the store's file.
func TracesPath(storePath string) string { return storePath + ".traces" }

// OpenTraces opens the file and creates it if there is none. A damaged file is set aside
// and replaced by what can be read of it. The caller must call Close.
func OpenTraces(path string, c trace.Config, log *slog.Logger) (*Traces, error) {
	c.SetDefaults()
	f, err := pagefile.Mend(path, openPatience, TracesLayout())
	if err != nil {
		return nil, fmt.Errorf("cannot open traces %q: %w", path, err)
	}
	if f != nil {
		log.Error("the file of traces was damaged and made anew", "what", f.What(), "file", path, "damaged", f.Aside, "problem", f.Why)
	}
	db, err := openTraces(path)
	if errors.Is(err, errFormat) {
		log.Error("traces cannot be read, beginning anew", "file", path, "err", err)
		if _, err := pagefile.SetAside(path); err != nil {
			return nil, err
		}
		db, err = openTraces(path)
	}
	if err != nil {
		return nil, err
	}
	return &Traces{config: c, path: path, log: log, db: db}, nil
}

func openTraces(path string) (*bbolt.DB, error) {
	db, err := pagefile.Open(path, openPatience, 1<<20, prepareTraces)
	if err != nil {
		return nil, fmt.Errorf("cannot open traces %q: %w", path, err)
	}
	return db, nil
}

func prepareTraces(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists([]byte("meta"))
		if err != nil {
			return err
		}
		if found := meta.Get([]byte("format")); found != nil && string(found) != tracesFormat {
			return errFormat
		}
		for _, name := range traceBuckets() {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return meta.Put([]byte("format"), []byte(tracesFormat))
	})
}

// Close closes the file.
func (s *Traces) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil // bbolt may never release it
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("cannot close traces: %w", err)
	}
	return nil
}

// traceFile holds the buckets within a transaction.
type traceFile struct{ parts, terms *bbolt.Bucket }

func openTraceFile(tx *bbolt.Tx) traceFile {
	b := func(name string) *bbolt.Bucket { return tx.Bucket([]byte(name)) }
	return traceFile{b("parts"), b("terms")}
}

// guarded runs f in a transaction. If a damaged page makes bbolt panic, guarded returns
// an error and the file is started over.
func (s *Traces) guarded(ctx context.Context, run func(*bbolt.DB, func(*bbolt.Tx) error) error, f func(traceFile) error) error {
	err := ctx.Err()
	var db *bbolt.DB
	if err == nil {
		db, err = s.attempt(run, f)
	}
	if errors.Is(err, pagefile.ErrDamaged) {
		s.beginAnew(db, err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", wake.ErrUnavailable, err)
	}
	return nil
}

func (s *Traces) attempt(run func(*bbolt.DB, func(*bbolt.Tx) error) error, f func(traceFile) error) (db *bbolt.DB, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.broken {
		return nil, errBroken
	}
	db = s.db
	defer pagefile.Recover(&err)()
	return db, run(db, func(tx *bbolt.Tx) error {
		t := openTraceFile(tx)
		if t.parts == nil || t.terms == nil {
			return pagefile.ErrDamaged
		}
		return f(t)
	})
}

// maxBegun is how often a traces file is started over while the service runs. It is
// limited because bbolt may keep each damaged file open forever.
const maxBegun = 5

var errBroken = errors.New("the file of traces is damaged again and again; look at the disk")

// beginAnew sets a damaged file aside and starts over.
func (s *Traces) beginAnew(db *bbolt.DB, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken || db != nil && s.db != db {
		return // another goroutine was first
	}
	s.begun++
	aside, err := pagefile.SetAside(s.path)
	if err == nil {
		db, err = openTraces(s.path)
	}
	if err != nil || s.begun > maxBegun {
		s.broken = true
	}
	if err == nil {
		s.db = db
	}
	s.log.Error("the file of traces is damaged, and began anew", "file", s.path, "damaged", aside, "problem", why, "err", err)
}

// Put implements trace.Store.
func (s *Traces) Put(ctx context.Context, parts []trace.Timeline) (kept int, err error) {
	for i := range parts {
		if err := store.CheckTrace(&parts[i]); err != nil {
			return 0, fmt.Errorf("cannot write traces: %w", err)
		}
	}
	oldest := time.Now().Add(-s.config.Retention)
	room, _ := s.rooms.Get().(*[]byte) // bbolt refers to what it holds until the end of the transaction
	if room == nil {
		room = new([]byte)
	}
	defer s.rooms.Put(room)
	*room = (*room)[:0]
	err = s.guarded(ctx, (*bbolt.DB).Update, func(f traceFile) error {
		for i := range parts {
			if parts[i].StartedAt.Before(oldest) {
				continue
			}
			if err := f.put(room, &parts[i], s.config.CallBytes); err != nil {
				return err
			}
		}
		if err := f.trim(oldest, s.config.Calls, 2*len(parts)+trimMost); err != nil {
			return err
		}
		kept = int(f.terms.Sequence())
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("cannot write traces: %w", err)
	}
	return kept, nil
}

// trimMost is how many calls one write removes, in addition to the number that it adds.
const trimMost = 64

func placeOf(t *trace.Timeline) []byte {
	return append(binary.BigEndian.AppendUint64(nil, store.TraceStart(t.StartedAt)), t.ID...)
}

// put appends what it writes to room, whose bytes must then not change before the end of
// the transaction.
func (f *traceFile) put(room *[]byte, t *trace.Timeline, most int) error {
	place := placeOf(t)
	key := append(append(bytes.Clone(place), 0), t.Instance...)
	start := len(*room)
	*room = store.AppendTrace(*room, t, most)
	if err := f.parts.Put(key, (*room)[start:]); err != nil {
		return err
	}
	was := f.terms.Get(place)
	start = len(*room)
	*room = append(*room, was...)
	if was == nil {
		if err := f.terms.SetSequence(f.terms.Sequence() + 1); err != nil {
			return err
		}
		*room = binary.BigEndian.AppendUint16(*room, uint16(min(len(t.AOR), maxTraceAOR)))
		*room = append(*room, t.AOR[:min(len(t.AOR), maxTraceAOR)]...)
	}
	t.EachTerm(func(kind byte, value string) {
		if sum := termSum(kind, value); !hasTerm((*room)[start:], sum) {
			*room = binary.BigEndian.AppendUint32(*room, sum)
		}
	})
	if len(*room) == start+len(was) {
		return nil
	}
	return f.terms.Put(place, (*room)[start:])
}

const maxTraceAOR = 1 << 12

// termSum is the FNV-1a hash of a term. Two terms may have the same hash.
func termSum[T string | trace.Term](kind byte, value T) uint32 {
	const offset, prime = 2166136261, 16777619
	h := (offset ^ uint32(kind)) * prime
	for i := range len(value) {
		h = (h ^ uint32(value[i])) * prime
	}
	return h
}

// cutTerms returns the AOR and the hashes of the terms.
func cutTerms(b []byte) (aor, sums []byte) {
	if len(b) < 2 {
		return nil, nil
	}
	n := min(2+int(binary.BigEndian.Uint16(b)), len(b))
	return b[2:n], b[n:]
}

func hasTerm(b []byte, sum uint32) bool {
	for _, sums := cutTerms(b); len(sums) >= 4; sums = sums[4:] {
		if binary.BigEndian.Uint32(sums) == sum {
			return true
		}
	}
	return false
}

// trim removes calls older than oldest, and the oldest ones beyond the limit calls.
func (f *traceFile) trim(oldest time.Time, calls, most int) error {
	for range most {
		place, _ := f.terms.Cursor().First()
		if len(place) < 8 || binary.BigEndian.Uint64(place) >= store.TraceStart(oldest) && f.terms.Sequence() <= uint64(calls) {
			return nil
		}
		if err := f.remove(bytes.Clone(place)); err != nil {
			return err
		}
	}
	return nil
}

func (f *traceFile) remove(place []byte) error {
	prefix := append(bytes.Clone(place), 0)
	c := f.parts.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
		if err := c.Delete(); err != nil {
			return err
		}
	}
	if err := f.terms.Delete(place); err != nil {
		return err
	}
	return f.terms.SetSequence(f.terms.Sequence() - 1)
}

// Find implements trace.Store.
func (s *Traces) Find(ctx context.Context, q trace.Query) (found []trace.Timeline, next trace.Cursor, err error) {
	err = s.guarded(ctx, (*bbolt.DB).View, func(f traceFile) error {
		found, next = f.find(ctx, &q)
		return nil
	})
	if err != nil {
		return nil, trace.Cursor{}, fmt.Errorf("cannot read traces: %w", err)
	}
	return found, next, nil
}

// maxPass is how many non-matching calls one search reads.
const maxPass = 200_000

func (f *traceFile) find(ctx context.Context, q *trace.Query) (found []trace.Timeline, next trace.Cursor) {
	// Go backwards from the first place that is too new.
	upper := bytes.Repeat([]byte{0xff}, 9)
	if !q.Until.IsZero() {
		upper = binary.BigEndian.AppendUint64(nil, store.TraceStart(q.Until))
	}
	if before := append(binary.BigEndian.AppendUint64(nil, store.TraceStart(q.Before.StartedAt)), q.Before.ID...); !q.Before.IsZero() &&
		bytes.Compare(before, upper) < 0 {
		upper = before
	}
	c := f.terms.Cursor()
	var terms []byte
	k, _ := c.Seek(upper)
	if k == nil {
		k, terms = c.Last()
	} else {
		k, terms = c.Prev()
	}
	term := q.Term()
	var sum uint32
	if term != "" {
		sum = termSum(term[0], term[1:])
	}
	calls, looked := 0, 0
	for passed := 1; len(k) >= 8; passed++ {
		place := k
		at := time.UnixMicro(int64(binary.BigEndian.Uint64(place)))
		if !q.Since.IsZero() && at.Before(q.Since.Truncate(time.Microsecond)) {
			break
		}
		if term == "" || hasTerm(terms, sum) {
			looked++
			if parts := f.call(place); len(parts) > 0 && q.Match(&trace.Merge(parts)[0]) {
				found = append(found, parts...)
				calls++
			}
		}
		here := trace.Cursor{StartedAt: at, ID: string(place[8:])}
		if k, terms = c.Prev(); calls == q.Limit || looked == trace.MaxLook || passed == maxPass || passed%256 == 0 && ctx.Err() != nil {
			if len(k) >= 8 {
				return found, here
			}
			break
		}
	}
	return found, trace.Cursor{}
}

// call returns the parts of the call. It skips parts that cannot be read.
func (f *traceFile) call(place []byte) (parts []trace.Timeline) {
	prefix := append(bytes.Clone(place), 0)
	c := f.parts.Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if t, err := store.DecodeTrace(string(place[8:]), string(k[len(prefix):]), v); err == nil {
			parts = append(parts, t)
		}
	}
	return parts
}

// Users implements trace.Store.
func (s *Traces) Users(ctx context.Context, part string, most int) (found []string, err error) {
	err = s.guarded(ctx, (*bbolt.DB).View, func(f traceFile) error {
		seen := make(map[string]bool)
		c := f.terms.Cursor()
		for k, terms := c.Last(); k != nil && len(found) < most && ctx.Err() == nil; k, terms = c.Prev() {
			aor, _ := cutTerms(terms)
			if bytes.Contains(aor, []byte(part)) && !seen[string(aor)] && trace.HasPart(string(aor), part) {
				seen[string(aor)] = true
				found = append(found, string(aor))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read users of traces: %w", err)
	}
	slices.Sort(found)
	return found, nil
}

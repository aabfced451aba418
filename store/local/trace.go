package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/store"
	"github.com/sipwake/sipwake/store/pagefile"
	"github.com/sipwake/sipwake/trace"
	"github.com/sipwake/sipwake/wake"
)

// Traces is a trace.Store in a file of its own: what is written there never makes a
// binding wait, and a damaged one costs nothing but the past.
//
// A call's place is 8 bytes, when it started, and its ID. The buckets:
//
//	parts   place, 0, instance -> value (package store)
//	terms   place -> the terms that the index has of the call, each 2+n; its
//	        sequence is how many calls there are
//	index   2+n term, place -> nothing
//	users   part of the AOR, 0, AOR -> nothing
//	meta    "format" -> "1"
type Traces struct {
	config trace.Config
	path   string
	log    *slog.Logger

	mu     sync.RWMutex // over db; held to read by whoever uses it
	db     *bbolt.DB
	begun  int  // how often it began anew
	broken bool // it does so no more
}

var _ trace.Store = (*Traces)(nil)

func traceBuckets() []string { return []string{"parts", "terms", "index", "users", "meta"} }

// TracesPath is the file beside that of the store.
func TracesPath(storePath string) string { return storePath + ".traces" }

// OpenTraces opens the file, and makes it if there is none. One that cannot be read
// is put aside, and what can be read of it takes its place. Close must be called.
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
		if found := meta.Get([]byte("format")); found != nil && string(found) != format {
			return errFormat
		}
		for _, name := range traceBuckets() {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return meta.Put([]byte("format"), []byte(format))
	})
}

// Close closes the file.
func (s *Traces) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil // bbolt may never let go of it
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("cannot close traces: %w", err)
	}
	return nil
}

// traceFile is the buckets within a transaction.
type traceFile struct{ parts, terms, index, users *bbolt.Bucket }

func openTraceFile(tx *bbolt.Tx) traceFile {
	b := func(name string) *bbolt.Bucket { return tx.Bucket([]byte(name)) }
	return traceFile{b("parts"), b("terms"), b("index"), b("users")}
}

// guarded runs f in a transaction. A damaged page can make bbolt panic: that is an
// error here, and the file begins anew.
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
		if t.parts == nil || t.terms == nil || t.index == nil || t.users == nil {
			return pagefile.ErrDamaged
		}
		return f(t)
	})
}

// maxBegun is how often a file of traces begins anew while the service runs: bbolt
// may keep the damaged one open for good.
const maxBegun = 5

var errBroken = errors.New("the file of traces is damaged again and again; look at the disk")

// beginAnew sets a file aside that turns out to be damaged.
func (s *Traces) beginAnew(db *bbolt.DB, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken || db != nil && s.db != db {
		return // somebody else was first
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
	err = s.guarded(ctx, (*bbolt.DB).Update, func(f traceFile) error {
		for i := range parts {
			if parts[i].StartedAt.Before(oldest) {
				continue
			}
			if err := f.put(&parts[i], s.config.CallBytes); err != nil {
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

// trimMost is how many calls one write forgets beside those that it makes room for.
const trimMost = 64

func placeOf(t *trace.Timeline) []byte {
	return append(binary.BigEndian.AppendUint64(nil, store.TraceStart(t.StartedAt)), t.ID...)
}

func indexKey(term trace.Term, place []byte) []byte {
	return append(appendKey(nil, string(term), ""), place...)
}

func userKey(part, aor string) []byte { return []byte(part + "\x00" + aor) }

func (f *traceFile) put(t *trace.Timeline, most int) error {
	place := placeOf(t)
	key := append(append(bytes.Clone(place), 0), t.Instance...)
	if err := f.parts.Put(key, store.AppendTrace(nil, t, most)); err != nil {
		return err
	}
	was := f.terms.Get(place)
	has := readTerms(was)
	terms := bytes.Clone(was)
	for _, term := range t.Terms() {
		if has[term] {
			continue
		}
		terms = appendKey(terms, string(term), "")
		if err := f.index.Put(indexKey(term, place), nil); err != nil {
			return err
		}
	}
	if was == nil {
		if err := f.terms.SetSequence(f.terms.Sequence() + 1); err != nil {
			return err
		}
	} else if len(terms) == len(was) {
		return nil
	}
	for _, part := range trace.Parts(t.AOR) {
		key := userKey(part, t.AOR)
		if part == t.AOR && f.users.Get(key) != nil {
			break // the others are there too
		}
		if err := f.users.Put(key, []byte{}); err != nil {
			return err
		}
	}
	return f.terms.Put(place, terms)
}

func readTerms(b []byte) map[trace.Term]bool {
	terms := make(map[trace.Term]bool)
	for len(b) >= 2 {
		n := min(2+int(binary.BigEndian.Uint16(b)), len(b))
		terms[trace.Term(b[2:n])] = true
		b = b[n:]
	}
	return terms
}

// trim forgets calls from before oldest and those that are more than calls.
func (f *traceFile) trim(oldest time.Time, calls, most int) error {
	for range most {
		place, terms := f.terms.Cursor().First()
		if len(place) < 8 || binary.BigEndian.Uint64(place) >= store.TraceStart(oldest) && f.terms.Sequence() <= uint64(calls) {
			return nil
		}
		if err := f.remove(bytes.Clone(place), readTerms(terms)); err != nil {
			return err
		}
	}
	return nil
}

func (f *traceFile) remove(place []byte, terms map[trace.Term]bool) error {
	for term := range terms {
		if err := f.index.Delete(indexKey(term, place)); err != nil {
			return err
		}
		if err := f.removeUser(term); err != nil {
			return err
		}
	}
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

// removeUser forgets the user of the term, if it is one and has no call any more.
func (f *traceFile) removeUser(term trace.Term) error {
	aor, ok := trace.UserOf(term)
	prefix := indexKey(term, nil)
	if k, _ := f.index.Cursor().Seek(prefix); !ok || bytes.HasPrefix(k, prefix) {
		return nil
	}
	for _, part := range trace.Parts(aor) {
		if err := f.users.Delete(userKey(part, aor)); err != nil {
			return err
		}
	}
	return nil
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

func (f *traceFile) find(ctx context.Context, q *trace.Query) (found []trace.Timeline, next trace.Cursor) {
	c, prefix := f.terms.Cursor(), []byte(nil)
	if term := q.Term(); term != "" {
		c, prefix = f.index.Cursor(), indexKey(term, nil)
	}
	// From the first place that is too new on, backwards.
	upper := append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, 9)...)
	if !q.Until.IsZero() {
		upper = binary.BigEndian.AppendUint64(bytes.Clone(prefix), store.TraceStart(q.Until))
	}
	if before := append(binary.BigEndian.AppendUint64(bytes.Clone(prefix), store.TraceStart(q.Before.StartedAt)), q.Before.ID...); !q.Before.IsZero() &&
		bytes.Compare(before, upper) < 0 {
		upper = before
	}
	k, _ := c.Seek(upper)
	if k == nil {
		k, _ = c.Last()
	} else {
		k, _ = c.Prev()
	}
	calls := 0
	for looked := 1; len(k) >= len(prefix)+8 && bytes.HasPrefix(k, prefix); looked++ {
		place := k[len(prefix):]
		at := time.UnixMicro(int64(binary.BigEndian.Uint64(place)))
		if !q.Since.IsZero() && at.Before(q.Since.Truncate(time.Microsecond)) {
			break
		}
		if parts := f.call(place); len(parts) > 0 && q.Match(&trace.Merge(parts)[0]) {
			found = append(found, parts...)
			calls++
		}
		here := trace.Cursor{StartedAt: at, ID: string(place[8:])}
		if k, _ = c.Prev(); calls == q.Limit || looked == trace.MaxLook || ctx.Err() != nil {
			if len(k) >= len(prefix)+8 && bytes.HasPrefix(k, prefix) {
				return found, here
			}
			break
		}
	}
	return found, trace.Cursor{}
}

// call returns the parts of the call; those that cannot be read are left out.
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
		c := f.users.Cursor()
		for k, _ := c.Seek([]byte(part)); bytes.HasPrefix(k, []byte(part)) && len(found) < most; k, _ = c.Next() {
			if _, aor, ok := bytes.Cut(k, []byte{0}); ok && !seen[string(aor)] {
				seen[string(aor)] = true
				found = append(found, string(aor))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read users of traces: %w", err)
	}
	return found, nil
}

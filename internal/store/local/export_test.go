package local

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/pagefile"
	"github.com/sipwake/sipwake/internal/wake"
)

// KeptByTime returns how many bindings are kept by time.
func KeptByTime(s *Store) int {
	if x := s.expiring.Load(); x != nil {
		return len(x.keys)
	}
	return 0
}

// EndExpiring is what the writer does every second.
func EndExpiring(s *Store, now time.Time) { s.endExpiring(now) }

// Active returns how many AORs are in memory.
func Active(s *Store) int {
	n := 0
	for i := range s.shards {
		s.shards[i].mu.Lock()
		n += len(s.shards[i].aors)
		s.shards[i].mu.Unlock()
	}
	return n
}

// Flush returns when everything is in the file, and drops what need not be in memory.
func Flush(t *testing.T, s *Store) {
	for s.writer.waiting.Load() > 0 {
		poke(s.writer.soon)
		time.Sleep(time.Millisecond)
	}
	if err := s.writer.do(t.Context(), func(*writeTx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	s.rest()
}

// Fold is what the store does with its refreshes when there are many.
func Fold(t *testing.T, s *Store) {
	if err := s.foldAll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// FoldDue reports whether there are many.
func FoldDue(s *Store) bool { return s.refreshes.due() }

// SetMostKept bounds the bindings whose times are kept.
func SetMostKept(s *Store, n int) { s.refreshes.most = max(n/refreshParts, 1) }

// Kept returns how many there are.
func Kept(s *Store) int { return s.refreshes.size() }

// Recalls reports whether the REGISTER needs nothing from the file.
func Recalls(s *Store, r wake.Registration) bool {
	sh := s.shardOf(r.AOR)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.recall(sh, &r) != nil
}

// Filed returns when the binding was last registered by its own value in the file, and
// how many numbers the bucket of refreshes has.
func Filed(t *testing.T, s *Store, r wake.Registration) (registered time.Time, numbers int) {
	err := s.data.Load().db.View(func(tx *bbolt.Tx) error {
		numbers = tx.Bucket(bucketRefreshes()).Stats().KeyN
		v := tx.Bucket(bucketBindings()).Get(appendKey(nil, r.AOR, r.Device))
		if v == nil {
			return nil
		}
		h, err := store.ReadHead(v)
		registered = h.Registered
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return registered, numbers
}

// Stored returns how many bindings and tokens the file holds.
func Stored(t *testing.T, s *Store) (bindings, tokens int) {
	err := s.data.Load().db.View(func(tx *bbolt.Tx) error {
		bindings = tx.Bucket(bucketBindings()).Stats().KeyN
		tokens = tx.Bucket(bucketTokens()).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bindings, tokens
}

// Keys tells how many keys the buckets of messages and claims hold, and in
// brackets how many messages are counted.
func Keys(t *testing.T, s *Store) string {
	var b strings.Builder
	err := s.data.Load().db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMessages(), bucketDue(), bucketDone(), bucketClaims(), bucketClaimEnds()} {
			fmt.Fprintf(&b, "%s %d ", name, tx.Bucket(name).Stats().KeyN)
			if bytes.Equal(name, bucketMessages()) {
				fmt.Fprintf(&b, "(%d) ", tx.Bucket(name).Sequence())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

// MakeOlder takes from a closed file what the first version had not.
func MakeOlder(t *testing.T, path string) {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets()[3:] {
			if err := tx.DeleteBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// NoteUsers returns how many AORs have notes in the file.
func NoteUsers(t *testing.T, s *Store) (n int) {
	err := s.data.Load().db.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket(bucketNotes()).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// PutNote writes a note of the AOR into a closed file.
func PutNote(t *testing.T, path, aor string, n wake.RemovalNote) {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketNotes()).Put([]byte(aor), store.AddNote(nil, &n))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// UsedPages returns the pages of the newest state that are in use, the meta pages
// and the list of free pages among them; those nearest to the roots come first.
func UsedPages(r io.ReaderAt) ([]uint64, error) {
	m, _, err := pagefile.ReadMetas(r)
	if err != nil {
		return nil, err
	}
	return append([]uint64{m.Root, 0, 1, m.Freelist}, pagefile.NewView(r, m).Used()...), nil
}

// UsersBeside returns the users none of whose bindings are on the pages. If the list
// of free pages is hit as well as a branch, nobody can tell which pages below it are old.
func UsersBeside(t *testing.T, data []byte, hit []uint64) map[string]bool {
	r := bytes.NewReader(data)
	m, _, err := pagefile.ReadMetas(r)
	if err != nil {
		t.Fatal(err)
	}
	users := make(map[string]bool)
	v := pagefile.NewView(r, m)
	both := slices.Contains(hit, 0) && slices.Contains(hit, 1) || slices.Contains(hit, m.Freelist) && len(hit) > 1
	if both {
		return users
	}
	_, err = v.Salvage(func(bucket string, k, _ []byte) error {
		if bucket == string(bucketBindings()) {
			aor, _, _ := cutKey(k)
			users[string(aor)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range hit {
		for _, k := range v.Keys(page) {
			if aor, _, ok := cutKey(k); ok {
				delete(users, string(aor))
			}
		}
	}
	return users
}

// DamageLeaf fills the leaf with the AOR's bindings with zeros, in the file of a running
// store, and returns the AORs that are on it, after before was called with each of them.
func DamageLeaf(t *testing.T, s *Store, aor string, before func(aor string)) map[string]bool {
	d := s.data.Load()
	v := pagefile.NewView(d.raw, *d.newest.Load())
	for _, page := range v.Used() {
		lost := make(map[string]bool)
		for _, k := range v.Keys(page) {
			if of, device, ok := cutKey(k); ok && len(device) > 0 {
				lost[string(of)] = true
			}
		}
		if !lost[aor] {
			continue
		}
		for aor := range lost {
			before(aor)
		}
		f, err := os.OpenFile(d.db.Path(), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 4096), int64(page)*4096); err != nil {
			t.Fatal(err)
		}
		return lost
	}
	t.Fatal("no leaf has", aor)
	return nil
}

// FoldSteps returns the lengths of the steps of a pass whose writes take so long.
func FoldSteps(took ...time.Duration) (steps []int) {
	f := folding{step: leastFold}
	for _, d := range took {
		f.took(d)
		steps = append(steps, f.step)
	}
	return steps
}

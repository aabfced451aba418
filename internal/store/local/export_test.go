package local

import (
	"bytes"
	"fmt"
	"io"
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

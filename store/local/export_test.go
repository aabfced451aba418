package local

import (
	"testing"

	"go.etcd.io/bbolt"
)

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
	err := s.db.View(func(tx *bbolt.Tx) error {
		bindings = tx.Bucket(bucketBindings()).Stats().KeyN
		tokens = tx.Bucket(bucketTokens()).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bindings, tokens
}

package pagefile_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store/pagefile"
)

// A cache that goes from state to state finds what the file has, whatever was written
// and whichever of the pages were asked for in between.
func TestCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	raw, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	random := rand.New(rand.NewPCG(1, 2))
	key := func(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	want := make(map[int]string)
	cache := pagefile.NewCache()
	for range 400 {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			for range random.IntN(20) {
				n := random.IntN(3000)
				if random.IntN(3) == 0 {
					delete(want, n)
					err = b.Delete(key(n))
				} else {
					want[n] = string(make([]byte, random.IntN(200))) + string(rune('a'+random.IntN(26)))
					err = b.Put(key(n), []byte(want[n]))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := pagefile.ReadMetas(raw)
		if err != nil {
			t.Fatal(err)
		}
		for range random.IntN(30) {
			v := pagefile.NewCachedView(raw, m, cache)
			n := random.IntN(3000)
			got := v.Bucket("b").Get(key(n))
			if v.Err() != nil {
				t.Fatal(v.Err())
			}
			if has, ok := want[n]; string(got) != has || (got != nil) != ok {
				t.Fatalf("state %d, key %d: %q, want %q", m.Tx, n, got, has)
			}
		}
	}
}

package bench

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// newSize is the length of a binding and its token in the index, in bytes.
const newSize = 400

// newOnes compares new bindings, which are on disk before they are acknowledged, with two
// baselines, each with one write for all connections: appending as many bytes to a file,
// and bbolt alone, with as many keys in its file as there are bindings.
func (b *bench) newOnes(ctx context.Context) error {
	alone, err := b.fillBolt()
	if err != nil {
		return err
	}
	defer func() { _ = alone.Close() }()
	for _, s := range b.servers {
		if b.Only == "" || s.name == "redis" {
			continue
		}
		if err := b.fill(ctx, s, b.register(0, b.Bindings), b.Bindings); err != nil {
			return err
		}
	}
	for i := range b.Rounds {
		plain, err := fsyncs(filepath.Join(b.dir, "fsync"), b.Round, newSize*connections)
		if err != nil {
			return err
		}
		bolt, err := boltWrites(alone, b.Round)
		if err != nil {
			return err
		}
		b.add("batched fsync rate", "1/s", plain*connections)
		b.add("bbolt alone rate", "1/s", bolt*connections)
		for _, s := range b.servers {
			if s.name == "redis" {
				continue
			}
			body := b.register(10_000_000*(i+1), 9_999_991)
			err := b.loaded("new bindings, "+s.name, s.pid, func() (int, error) { return s.flatOut(ctx, b.Round, body, accepted) })
			if err != nil {
				return err
			}
			b.ratio("new bindings of batched fsync's, "+s.name, "new bindings, "+s.name+" rate", "batched fsync rate")
			b.ratio("new bindings of bbolt's, "+s.name, "new bindings, "+s.name+" rate", "bbolt alone rate")
		}
	}
	return nil
}

// fsyncs returns how often a second size bytes can be appended and synced.
func fsyncs(path string, d time.Duration, size int) (float64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, size)
	n := 0
	for began := time.Now(); time.Since(began) < d; n++ {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return float64(n) / d.Seconds(), nil
}

// The buckets of bbolt alone. Of newSize bytes, 360 are a binding and the rest a token.
var boltBindings, boltTokens = []byte("bindings"), []byte("tokens")

// fillBolt returns a file of bbolt's with as many bindings and tokens as the servers have.
func (b *bench) fillBolt() (*bbolt.DB, error) {
	db, err := bbolt.Open(filepath.Join(b.dir, "bbolt.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	step := ^uint64(0) / uint64(max(b.Bindings, 1))
	db.NoSync = true
	for i := 0; i < b.Bindings && err == nil; i += 10_000 {
		err = db.Update(func(tx *bbolt.Tx) error {
			for n := i; n < min(i+10_000, b.Bindings); n++ {
				if err := putBolt(tx, step*uint64(n), step*uint64(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		err = db.Sync()
	}
	db.NoSync = false
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// boltWrites returns how often a second bindings for all connections can be written.
func boltWrites(db *bbolt.DB, d time.Duration) (float64, error) {
	n := 0
	for began := time.Now(); time.Since(began) < d; n++ {
		err := db.Update(func(tx *bbolt.Tx) error {
			for range connections {
				if err := putBolt(tx, rand.Uint64(), rand.Uint64()); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return float64(n) / d.Seconds(), nil
}

func putBolt(tx *bbolt.Tx, user, token uint64) error {
	for _, put := range []struct {
		bucket []byte
		key    uint64
		size   int
	}{{boltBindings, user, 352}, {boltTokens, token, 32}} {
		bucket, err := tx.CreateBucketIfNotExists(put.bucket)
		if err == nil {
			err = bucket.Put(binary.BigEndian.AppendUint64(nil, put.key), make([]byte, put.size))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

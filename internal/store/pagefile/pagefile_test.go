package pagefile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store/pagefile"
)

// sample returns a file with small and large buckets and free pages.
func sample(t testing.TB, keys int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		err = db.Update(func(tx *bbolt.Tx) error {
			for name, n := range map[string]int{"large": keys, "small": 2, "empty": 0} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				for i := range n {
					if err := b.Put(key(i), bytes.Repeat([]byte{byte(i)}, 50+i%7*round+i%97/96*6000)); err != nil {
						return err
					}
				}
				if err := b.SetSequence(7); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func key(i int) []byte { return []byte(fmt.Sprintf("key%06d", i*10)) }

func view(t testing.TB, data []byte) *pagefile.View {
	t.Helper()
	m, both, err := pagefile.ReadMetas(bytes.NewReader(data))
	if err != nil || !both {
		t.Fatal(both, err)
	}
	return pagefile.NewView(bytes.NewReader(data), m)
}

// What bbolt wrote is read as bbolt reads it.
func TestReads(t *testing.T) {
	const keys = 3000
	v := view(t, sample(t, keys))
	if r := v.Check(); !r.OK() || r.Elements != keys+2 || r.Buckets["large"] != (pagefile.Size{Keys: keys, Sequence: 7}) {
		t.Fatalf("%+v", r)
	}
	large := v.Bucket("large")
	n := 0
	c := large.Cursor()
	for k, val := c.First(); k != nil; k, val = c.Next() {
		if !bytes.Equal(k, key(n)) || len(val) < 50 || val[0] != byte(n) {
			t.Fatalf("%d: %s", n, k)
		}
		n++
	}
	if n != keys || large.Sequence() != 7 || v.Err() != nil {
		t.Errorf("%d keys, sequence %d, %v", n, large.Sequence(), v.Err())
	}
	for i := -1; i < keys; i++ {
		between := fmt.Appendf(nil, "key%06d", i*10+5)
		if i < 0 {
			between = []byte("a")
		}
		k, _ := large.Cursor().Seek(between)
		if i+1 < keys && !bytes.Equal(k, key(i+1)) || i+1 == keys && k != nil {
			t.Fatalf("after %s: %s", between, k)
		}
		if large.Get(between) != nil || i >= 0 && large.Get(key(i)) == nil {
			t.Fatalf("get %d", i)
		}
	}
	if k, _ := v.Bucket("empty").Cursor().First(); k != nil || v.Bucket("small").Get(key(1)) == nil || v.Err() != nil {
		t.Error(k, v.Err())
	}
	v.Bucket("none")
	if !errors.Is(v.Err(), pagefile.ErrDamaged) {
		t.Errorf("a bucket that is not there: %v", v.Err())
	}
}

// What ends a process that has bbolt read: a page below itself, a value as long as the
// memory, a page as long as the file, a bucket that is its own root.
func TestDeadly(t *testing.T) {
	data := sample(t, 1000)
	le := binary.LittleEndian
	branches := 0
	for at := 2 * 4096; at+4096 <= len(data); at += 4096 {
		flags := le.Uint16(data[at+8:])
		if flags != 1 && flags != 2 {
			continue
		}
		hits := map[string]func(page []byte){
			"longest page":   func(page []byte) { le.PutUint32(page[12:], ^uint32(0)) },
			"page of a file": func(page []byte) { le.PutUint32(page[12:], uint32(len(data)/4096-at/4096-1)) },
			"most elements":  func(page []byte) { le.PutUint16(page[10:], ^uint16(0)) },
		}
		if flags == 1 {
			branches++
			for i := range int(le.Uint16(data[at+10:])) {
				hits[fmt.Sprint("own child ", i)] = func(page []byte) { le.PutUint64(page[16+16*i+8:], uint64(at/4096)) }
				hits[fmt.Sprint("root ", i)] = func(page []byte) { le.PutUint64(page[16+16*i+8:], 3) }
			}
		} else {
			hits["longest value"] = func(page []byte) { le.PutUint32(page[16+12:], ^uint32(0)) }
			hits["longest key"] = func(page []byte) { le.PutUint32(page[16+8:], ^uint32(0)) }
			hits["far away"] = func(page []byte) { le.PutUint32(page[16+4:], ^uint32(0)) }
		}
		for name, hit := range hits {
			hurt := bytes.Clone(data)
			hit(hurt[at : at+4096])
			if use(t, hurt); t.Failed() {
				t.Fatalf("page %d, %s", at/4096, name)
			}
		}
	}
	if branches == 0 {
		t.Error("the sample has no branch")
	}
}

// use reads a file in all ways; it must end, and a cursor must go forward.
func use(t *testing.T, data []byte) {
	t.Helper()
	m, _, err := pagefile.ReadMetas(bytes.NewReader(data))
	if err != nil {
		return
	}
	if m.High > 1<<20 {
		return // its own checksum says that this is right
	}
	open := func() *pagefile.View { return pagefile.NewView(bytes.NewReader(data), m) }
	open().Check()
	n := 0
	if _, err := open().Salvage(func(string, []byte, []byte) error { n++; return nil }); err != nil || n > len(data) {
		t.Errorf("%d keys, %v", n, err)
	}
	v := open()
	var last []byte
	c := v.Bucket("large").Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if last != nil && bytes.Compare(last, k) >= 0 {
			t.Fatal("a cursor went back")
		}
		last = bytes.Clone(k)
	}
	if g, err := pagefile.NewGuard(open()); err == nil {
		_, _ = g.Key("large", key(1500), true), g.Key("small", key(0), false)
	}
}

// Whatever bytes are wrong, reading ends, and nothing is read outside the file.
func FuzzFile(f *testing.F) {
	data := sample(f, 300)
	f.Add(uint32(4096*3+8), []byte{1})
	f.Add(uint32(4096*4+16), []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		hurt := bytes.Clone(data)
		copy(hurt[int(at)%len(hurt):], with)
		use(t, hurt)
	})
}

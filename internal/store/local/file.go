package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/aor"
	"github.com/sipwake/sipwake/internal/store/pagefile"
	"github.com/sipwake/sipwake/internal/wake"
)

// The buckets of the file. Times in keys are microseconds since 1970 in 8 bytes, big-endian.
//
//	bindings   2+n AOR, device  -> value of the binding (package store)
//	tokens     16 bytes of the SHA-256 of the token's key -> the AORs that have it
//	           (package store)
//	shared     those of them that several AORs have -> nothing
//	notes      AOR -> why bindings went (package store)
//	messages   ID -> value of the message (package store); its sequence is how
//	           many there are
//	due        next try, ID -> nothing: the messages that are not done
//	done       end, ID -> nothing: those that are
//	waiting    owner -> how many of his messages are not done
//	claims     key -> end
//	claimends  end, key -> nothing
//	upper      AOR -> a registration at a PBX
//	upperdue   due, AOR -> nothing
//	refreshes  n, ascending -> what refreshes changed, newer than bindings: see refreshes
//	meta       "format" -> "1"
const format = "1"

func bucketBindings() []byte { return []byte("bindings") }
func bucketTokens() []byte   { return []byte("tokens") }
func bucketShared() []byte   { return []byte("shared") }
func bucketMeta() []byte     { return []byte("meta") }

func buckets() [][]byte {
	return [][]byte{bucketBindings(), bucketTokens(), bucketMeta(), bucketMessages(), bucketDue(), bucketDone(),
		bucketClaims(), bucketClaimEnds(), bucketShared(), bucketNotes(),
		bucketUpper(), bucketUpperDue(), bucketWaiting(), bucketRefreshes()}
}

var errFormat = errors.New("it was written by a newer sipwake")

// openPatience is how long to wait for another process to release the file.
const openPatience = 300 * time.Millisecond

// open opens or creates the file. It first rebuilds a damaged one.
func open(path string) (d *data, f *pagefile.Found, err error) {
	if f, err = pagefile.Mend(path, openPatience, Layout()); err == nil {
		d, err = openNew(path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open store %q: %w", path, err)
	}
	return d, f, nil
}

// openNew opens or creates a file that is not damaged.
func openNew(path string) (*data, error) {
	// Leave room to grow: mapping the file again waits for every reader.
	db, err := pagefile.Open(path, openPatience, 1<<28, prepare)
	if err != nil {
		return nil, err
	}
	d, err := openData(db)
	if err != nil {
		_ = db.Close()
	}
	return d, err
}

// prepare creates missing buckets, in a new file or one of an older sipwake. If none is
// missing it writes nothing.
func prepare(db *bbolt.DB) error {
	var found []byte
	complete := true
	err := db.View(func(tx *bbolt.Tx) error {
		for _, name := range buckets() {
			complete = complete && tx.Bucket(name) != nil
		}
		if meta := tx.Bucket(bucketMeta()); meta != nil {
			found = bytes.Clone(meta.Get([]byte("format")))
		}
		return nil
	})
	if err != nil || string(found) == format && complete {
		return err
	}
	if found != nil && string(found) != format {
		return errFormat
	}
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets() {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketMeta()).Put([]byte("format"), []byte(format))
	})
}

// appendKey appends the key of a binding. The length prefix keeps the AORs apart,
// whatever bytes they contain.
func appendKey(dst []byte, aor, device string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(aor)))
	return append(append(dst, aor...), device...)
}

func cutKey(k []byte) (aor, device []byte, ok bool) {
	if len(k) < 2 || len(k) < 2+int(binary.BigEndian.Uint16(k)) {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(k))
	return k[2:n], k[n:], true
}

// checkKey rejects keys that are too long for the file: one such key would fail a
// write that many RPCs wait for.
func checkKey(r *wake.Registration) error {
	if n := 2 + len(r.AOR) + len(r.Device); n > bbolt.MaxKeySize {
		return fmt.Errorf("AOR and device are %d bytes long, %d are allowed", n, bbolt.MaxKeySize)
	}
	return nil
}

// load reads an AOR from the file. It skips damaged bindings: the phone's next REGISTER
// writes them again.
func (s *Store) load(user string) (*state, error) {
	st := &state{State: aor.State{AOR: string([]byte(user))}} // the caller's may be part of a large string
	var room [256]byte
	prefix := appendKey(room[:0], user, "")
	unreadable := 0
	err := s.read(func(r reader) error {
		st.Devices, unreadable = nil, 0
		c := r.table(bucketBindings()).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if len(k) == len(prefix) || store.CheckBinding(v) != nil {
				unreadable++
				continue
			}
			st.Devices = append(st.Devices, &aor.Device{Name: string(k[len(prefix):]), Value: bytes.Clone(v)})
		}
		return nil
	})
	if err == nil {
		for _, d := range st.Devices {
			s.refreshes.filed(hashBinding(append(prefix, d.Name...)), d, len(st.Devices) == 1)
		}
	}
	if unreadable > 0 {
		s.log.Error("bindings cannot be read, and are taken for none until the phones register again", "aor", user, "count", unreadable)
	}
	return st, err
}

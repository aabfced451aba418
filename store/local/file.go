package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/sipwake/sipwake/wake"
)

// The file. Times in keys are microseconds since 1970 in 8 bytes, big-endian.
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
//	claims     key -> end
//	claimends  end, key -> nothing
//	upper      AOR -> a registration at a PBX
//	upperdue   due, AOR -> nothing
//	meta       "format" -> "1"
const format = "1"

func bucketBindings() []byte { return []byte("bindings") }
func bucketTokens() []byte   { return []byte("tokens") }
func bucketShared() []byte   { return []byte("shared") }
func bucketMeta() []byte     { return []byte("meta") }

func buckets() [][]byte {
	return [][]byte{bucketBindings(), bucketTokens(), bucketMeta(), bucketMessages(), bucketDue(), bucketDone(),
		bucketClaims(), bucketClaimEnds(), bucketShared(), bucketNotes(),
		bucketUpper(), bucketUpperDue()}
}

var (
	errInUse   = errors.New("another process has it open")
	errFormat  = errors.New("it was written by a newer sipwake")
	errDamaged = errors.New("it is damaged or no sipwake store; restore it or move it away")
	errIsDir   = errors.New("it is a directory, a file is expected")
)

// open opens or makes the file.
func open(path string) (db *bbolt.DB, err error) {
	// Room to grow: a new mapping waits for every reader.
	if db, err = openFile(path, 1<<28, prepare); err != nil {
		return nil, fmt.Errorf("cannot open store %q: %w", path, err)
	}
	return db, nil
}

// openFile opens or makes a file and has prepare make its buckets. A damaged one can
// make bbolt panic, or fault where a part of it is missing: both are errors here.
func openFile(path string, room int, prepare func(*bbolt.DB) error) (db *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, errDamaged
		}
	}()
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil, errIsDir
	}
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         300 * time.Millisecond,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: room,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		err = errInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		err = errDamaged
	case err == nil:
		if err = prepare(db); err != nil {
			_ = db.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return db, nil
}

// prepare makes the buckets that are missing, in a new file or one of an older
// sipwake, and else writes nothing.
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

// appendKey appends the key of a binding. The length in front keeps the AORs
// apart, whatever bytes they hold.
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

// checkKey keeps out what the file cannot take: one such key would fail the
// write that many RPCs wait for.
func checkKey(r *wake.Registration) error {
	if n := 2 + len(r.AOR) + len(r.Device); n > bbolt.MaxKeySize {
		return fmt.Errorf("AOR and device are %d bytes long, %d are allowed", n, bbolt.MaxKeySize)
	}
	return nil
}

// load reads an AOR from the file.
func load(db *bbolt.DB, aor string) (*state, error) {
	st := &state{aor: string([]byte(aor))} // the caller's may be part of something big
	var room [256]byte
	prefix := appendKey(room[:0], aor, "")
	err := db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketBindings()).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			st.devices = append(st.devices, &device{name: string(k[len(prefix):]), value: bytes.Clone(v)})
		}
		return nil
	})
	return st, err
}

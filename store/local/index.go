package local

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"

	"go.etcd.io/bbolt"
)

// tokenHash is the key of a token in the index.
type tokenHash [16]byte

func hashToken(key []byte) tokenHash {
	sum := sha256.Sum256(key)
	return tokenHash(sum[:16])
}

// index tells which AOR a token was bound to last. What is not written yet is in
// memory.
type index struct {
	db      *bbolt.DB
	mu      sync.Mutex
	pending map[tokenHash]owner
}

type owner struct {
	aor string // empty: nobody has it
	gen uint64
}

func (x *index) init(db *bbolt.DB) {
	x.db, x.pending = db, make(map[tokenHash]owner)
}

// owner returns the AOR, "" for none.
func (x *index) owner(h tokenHash) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ownerLocked(h)
}

func (x *index) ownerLocked(h tokenHash) (string, error) {
	if o, ok := x.pending[h]; ok {
		return o.aor, nil
	}
	var aor string
	err := x.db.View(func(tx *bbolt.Tx) error {
		aor = string(tx.Bucket(bucketTokens()).Get(h[:]))
		return nil
	})
	return aor, err
}

// take gives the owned tokens to the AOR and releases those that went. It
// returns what is to be written, and another AOR that had one of the owned.
func (x *index) take(aor string, owned, went []tokenHash) (changed []tokenHash, previous string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range owned {
		had, err := x.ownerLocked(h)
		if err != nil {
			return nil, "", err
		}
		if had != "" && had != aor {
			previous = had
		}
		x.set(h, aor)
	}
	went = slices.DeleteFunc(went, func(h tokenHash) bool { return slices.Contains(owned, h) })
	return append(owned, x.releaseLocked(aor, went)...), previous, nil
}

// release takes the tokens from the AOR, as far as it has them. It returns what
// is to be written. A token that cannot be looked up stays: whoever uses the
// index compares the token with the binding's.
func (x *index) release(aor string, went []tokenHash) []tokenHash {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.releaseLocked(aor, went)
}

func (x *index) releaseLocked(aor string, went []tokenHash) (changed []tokenHash) {
	for _, h := range went {
		if had, err := x.ownerLocked(h); err == nil && had == aor {
			x.set(h, "")
			changed = append(changed, h)
		}
	}
	return changed
}

func (x *index) set(h tokenHash, aor string) {
	x.pending[h] = owner{aor, x.pending[h].gen + 1}
}

// take a copy of what is pending of the hashes, ordered.
func (x *index) collect(hashes []tokenHash) []tokenOp {
	slices.SortFunc(hashes, func(a, b tokenHash) int { return bytes.Compare(a[:], b[:]) })
	hashes = slices.Compact(hashes)
	x.mu.Lock()
	defer x.mu.Unlock()
	var list []tokenOp
	for _, h := range hashes {
		if o, ok := x.pending[h]; ok {
			list = append(list, tokenOp{h, o})
		}
	}
	return list
}

// saved forgets what is in the file now.
func (x *index) saved(ops []tokenOp) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, op := range ops {
		if x.pending[op.hash].gen == op.owner.gen {
			delete(x.pending, op.hash)
		}
	}
}

type tokenOp struct {
	hash  tokenHash
	owner owner
}

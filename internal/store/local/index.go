package local

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sipwake/sipwake/internal/store"
)

// tokenHash is the key of a token in the index.
type tokenHash [16]byte

func hashToken(key []byte) tokenHash {
	sum := sha256.Sum256(key)
	return tokenHash(sum[:16])
}

// index maps each token to the AORs it is bound to. In memory are entries that are not
// written yet, and the set of tokens with several AORs: a refresh must not read the file.
type index struct {
	read    func(func(r reader) error) error
	sharing atomic.Int64 // the length of shared
	mu      sync.Mutex
	pending map[tokenHash]owner
	shared  map[tokenHash]struct{} // tokens of several AORs
}

type owner struct {
	aors []string // empty: no AOR has it; never changed in place
	gen  uint64
}

func (x *index) init(read func(func(r reader) error) error) error {
	x.read, x.pending, x.shared = read, make(map[tokenHash]owner), make(map[tokenHash]struct{})
	err := read(func(r reader) error {
		r.table(bucketShared()).each(func(k []byte) bool {
			if len(k) == len(tokenHash{}) {
				x.shared[tokenHash(k)] = struct{}{}
			}
			return true
		})
		return nil
	})
	x.sharing.Store(int64(len(x.shared)))
	return err
}

// owners returns the AORs that have the token.
func (x *index) owners(h tokenHash) ([]string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ownersLocked(h)
}

func (x *index) ownersLocked(h tokenHash) ([]string, error) {
	if o, ok := x.pending[h]; ok {
		return o.aors, nil
	}
	var aors []string
	err := x.read(func(r reader) error {
		aors = store.ReadAORs(r.table(bucketTokens()).Get(h[:]))
		return nil
	})
	return aors, err
}

// take adds the AOR to the owned tokens and removes it from the went tokens. It returns
// the tokens to write, and the other AORs that have one of the owned tokens.
func (x *index) take(aor string, owned, went []tokenHash, late bool) (changed []tokenHash, others []string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range owned {
		had, err := x.ownersLocked(h)
		if err != nil {
			return nil, nil, err
		}
		others = addOthers(others, had, aor)
		x.set(h, store.WithAOR(had, aor, late))
	}
	went = slices.DeleteFunc(went, func(h tokenHash) bool { return slices.Contains(owned, h) })
	return append(owned, x.releaseLocked(aor, went)...), others, nil
}

// refreshed moves the AOR to the end of the list of each token that several AORs have. It
// returns the tokens to write, and the other AORs.
func (x *index) refreshed(aor string, head store.Head) (changed []tokenHash, others []string, err error) {
	if x.sharing.Load() == 0 {
		return nil, nil, nil
	}
	head.Tokens(func(key []byte) bool {
		h := hashToken(key)
		x.mu.Lock()
		defer x.mu.Unlock()
		if _, ok := x.shared[h]; !ok {
			return true
		}
		var had []string
		if had, err = x.ownersLocked(h); err != nil {
			return false
		}
		others = addOthers(others, had, aor)
		if len(had) == 0 || had[len(had)-1] != aor { // the file may have lost it
			x.set(h, store.WithAOR(had, aor, false))
			changed = append(changed, h)
		}
		return true
	})
	return changed, others, err
}

// addOthers adds the elements of list to others, except the AOR and duplicates.
func addOthers(others, list []string, aor string) []string {
	for _, a := range list {
		if a != aor && !slices.Contains(others, a) {
			others = append(others, a)
		}
	}
	return others
}

// restore adds the AOR to those of its tokens whose index entries the file has lost. It
// returns the tokens to write.
func (x *index) restore(aor string, owned []tokenHash) (changed []tokenHash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range owned {
		if had, err := x.ownersLocked(h); err == nil && !slices.Contains(had, aor) {
			x.set(h, store.WithAOR(had, aor, true))
			changed = append(changed, h)
		}
	}
	return changed
}

// release removes the AOR from those of the tokens that it has. It returns the tokens
// to write. A token that cannot be looked up stays: users of the index compare the
// token with the binding's anyway.
func (x *index) release(aor string, went []tokenHash) []tokenHash {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.releaseLocked(aor, went)
}

func (x *index) releaseLocked(aor string, went []tokenHash) (changed []tokenHash) {
	for _, h := range went {
		if had, err := x.ownersLocked(h); err == nil && slices.Contains(had, aor) {
			x.set(h, store.WithoutAOR(had, aor))
			changed = append(changed, h)
		}
	}
	return changed
}

func (x *index) set(h tokenHash, aors []string) {
	x.pending[h] = owner{aors, x.pending[h].gen + 1}
	if len(aors) > 1 {
		x.shared[h] = struct{}{}
	} else {
		delete(x.shared, h)
	}
	x.sharing.Store(int64(len(x.shared)))
}

// collect returns the pending entries of the hashes, sorted.
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

// saved drops the pending entries that are in the file now.
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

func (t *tokenOp) put(index, shared *table) error {
	var err error
	switch aors := t.owner.aors; {
	case len(aors) > 1:
		err = shared.Put(t.hash[:], nil)
	case shared.Get(t.hash[:]) != nil:
		err = shared.Delete(t.hash[:])
	}
	if err != nil {
		return err
	}
	if len(t.owner.aors) == 0 {
		return index.Delete(t.hash[:])
	}
	return index.Put(t.hash[:], store.AppendAORs(nil, t.owner.aors))
}

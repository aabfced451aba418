package local

import (
	"crypto/sha256"
	"encoding/binary"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/aor"
)

// bindingHash is the first half of the SHA-256 of a binding's key in the file.
type bindingHash [16]byte

func hashBinding(key []byte) bindingHash {
	sum := sha256.Sum256(key)
	return bindingHash(sum[:16])
}

// lastingHash is a hash of what store.Lasting returns.
type lastingHash [8]byte

// refreshes knows the times of bindings that are not in memory. Most refreshes change
// nothing but the times (store.Times). The page of such a binding need not be read: its
// hash says that the file has the rest. Nor is it written: the new times of all bindings
// that were refreshed go together into the bucket of refreshes, 60 bytes each and many on
// a page, and from there to the bindings once there are many (see fold).
//
// So the times in a binding's value in the file may be old. Whoever reads a value passes
// it to update or filed. It is safe for concurrent use.
type refreshes struct {
	parts [refreshParts]refreshPart
	most  int // in each part

	mu      sync.Mutex
	last    uint64 // the last number in the bucket
	entries int    // refreshes in the bucket, those of one binding counted each time
}

const (
	refreshParts = 64
	// mostKept bounds the bindings in memory, keptSize the bytes that one takes there.
	mostKept = 1 << 21
	keptSize = 140
)

type refreshPart struct {
	mu   sync.Mutex
	kept map[bindingHash]kept
	size atomic.Int64
}

// kept is what is known of a binding. It has no pointers, so that garbage collection
// does not look at it.
type kept struct {
	number  uint64 // of its last refresh in the bucket, 0 if the binding's value has the times
	lasting lastingHash
	times   [store.TimesSize]byte
	filed   bool // the file has a binding with this lasting part
	alone   bool // and, unless the AOR is in memory, no other one of the same AOR
}

func keptOf(value []byte) (k kept) {
	sum := sha256.Sum256(store.Lasting(value))
	copy(k.lasting[:], sum[:])
	copy(k.times[:], store.Times(value))
	return k
}

// init makes room for as many bindings as an eighth of the memory can hold.
func (x *refreshes) init() {
	x.most = max(1, int(min(mostKept, debug.SetMemoryLimit(-1)/8/keptSize)/refreshParts))
	for i := range x.parts {
		x.parts[i].kept = make(map[bindingHash]kept)
	}
}

func (x *refreshes) part(h bindingHash) *refreshPart { return &x.parts[h[0]%refreshParts] }

func (x *refreshes) get(h bindingHash) (k kept, ok bool) {
	p := x.part(h)
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok = p.kept[h]
	return k, ok
}

// update gives a value from the file the times of the last refresh. It reports the number
// of the refresh, 0 if the value has them already.
func (x *refreshes) update(h bindingHash, value []byte) (number uint64) {
	if len(value) < 1+store.TimesSize {
		return 0
	}
	k, _ := x.get(h)
	if k.number == 0 || !k.newer(value) {
		return 0
	}
	copy(store.Times(value), k.times[:])
	return k.number
}

// newer reports whether the times belong to this value and are not older than its own.
// They may be left over from before the value was written.
func (k *kept) newer(value []byte) bool {
	return k.lasting == keptOf(value).lasting && store.SeenLater(k.times[:], store.Times(value))
}

// filed is update for a binding that has come to memory. It notes what the file has.
func (x *refreshes) filed(h bindingHash, d *aor.Device, alone bool) {
	number := x.update(h, d.Value)
	is := keptOf(d.Value)
	is.number, is.filed, is.alone = number, true, alone
	x.set(h, is)
	d.Filed = is.lasting
}

// notAlone notes that the AOR has more bindings.
func (x *refreshes) notAlone(h bindingHash) {
	p := x.part(h)
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.kept[h]; ok && k.alone {
		k.alone = false
		p.kept[h] = k
	}
}

// set keeps a binding. If there is no room, one goes whose times are in its value.
func (x *refreshes) set(h bindingHash, is kept) {
	p := x.part(h)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) >= x.most {
		if _, ok := p.kept[h]; !ok && !p.makeRoom() && is.number == 0 {
			return
		}
	}
	p.kept[h] = is
	p.size.Store(int64(len(p.kept)))
}

// keeps reports whether the binding is kept, or there is room for it.
func (x *refreshes) keeps(h bindingHash) bool {
	p := x.part(h)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) < x.most {
		return true
	}
	_, ok := p.kept[h]
	return ok
}

func (p *refreshPart) makeRoom() bool {
	const looks = 8 // the order is random
	n := 0
	for h, k := range p.kept {
		if k.number == 0 {
			delete(p.kept, h)
			return true
		}
		if n++; n == looks {
			break
		}
	}
	return false
}

func (x *refreshes) drop(h bindingHash) {
	p := x.part(h)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.kept, h)
	p.size.Store(int64(len(p.kept)))
}

// each calls f with every binding that is kept. f may change it, or return false to drop it.
func (x *refreshes) each(f func(h bindingHash, k *kept) bool) {
	for i := range x.parts {
		p := &x.parts[i]
		p.mu.Lock()
		for h, k := range p.kept {
			is := k
			if !f(h, &is) {
				delete(p.kept, h)
			} else if is != k {
				p.kept[h] = is
			}
		}
		p.size.Store(int64(len(p.kept)))
		p.mu.Unlock()
	}
}

// size returns how many bindings are kept.
func (x *refreshes) size() (n int) {
	for i := range x.parts {
		n += int(x.parts[i].size.Load())
	}
	return n
}

func bucketRefreshes() []byte { return []byte("refreshes") }

const (
	refreshSize = len(bindingHash{}) + len(lastingHash{}) + store.TimesSize
	// refreshRun is how many refreshes have a number together: four numbers fill a page.
	refreshRun = 16
)

// load reads the bucket. What was kept before counts no longer, for it was another file.
func (x *refreshes) load(read func(func(r reader) error) error) error {
	x.each(func(bindingHash, *kept) bool { return false })
	return read(func(r reader) error {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.entries = 0
		c := r.table(bucketRefreshes()).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if len(k) != 8 {
				continue
			}
			is := kept{number: binary.BigEndian.Uint64(k)}
			x.last = max(x.last, is.number)
			for ; len(v) >= refreshSize; v = v[refreshSize:] {
				h := bindingHash(v)
				n := copy(is.lasting[:], v[len(h):])
				copy(is.times[:], v[len(h)+n:])
				x.set(h, is)
				x.entries++
			}
		}
		return nil
	})
}

// put writes the refreshes among the ops and sets their numbers.
func (x *refreshes) put(tx *writeTx, ops []op) error {
	x.mu.Lock()
	number := x.last
	x.mu.Unlock()
	var run []byte // with the number
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		table := tx.table(bucketRefreshes())
		table.Fill()
		err := table.Put(binary.BigEndian.AppendUint64(nil, number), run)
		run = nil
		return err
	}
	for i := range ops {
		o := &ops[i]
		if !o.refresh {
			continue
		}
		if len(run) == 0 {
			number++
			run = make([]byte, 0, refreshRun*refreshSize)
		}
		o.kept.number = number
		run = append(append(append(run, o.hash[:]...), o.kept.lasting[:]...), o.kept.times[:]...)
		if len(run) == cap(run) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// written notes that the ops are in the bucket.
func (x *refreshes) written(ops []op) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range ops {
		if ops[i].refresh {
			x.last = max(x.last, ops[i].kept.number)
			x.entries++
		}
	}
}

// saved notes what the file has of the op's binding. Its state must be locked.
func (x *refreshes) saved(o *op) {
	if !o.refresh && o.value == nil {
		o.d.Filed = lastingHash{}
		x.drop(o.hash)
		return
	}
	is := o.kept
	is.filed, is.alone = true, len(o.st.Devices) == 1
	x.set(o.hash, is)
	o.d.Filed = is.lasting
}

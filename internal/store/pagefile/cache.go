package pagefile

import (
	"bytes"
	"sync"
	"sync/atomic"
)

// Cache keeps pages that were read and found good, across states of the file. A write
// changes no page of the state before it, so a page that is part of both states is the
// same. A page that is not used in a state is dropped. It is safe for concurrent use.
type Cache struct {
	mu       sync.RWMutex
	branches map[uint64]*cached
	leaves   map[uint64]*cached
}

const (
	mostBranches = 2048
	mostLeaves   = 4096
)

// cached is a page and the bounds that its keys were checked against.
type cached struct {
	page
	lo, hi []byte
	tx     atomic.Uint64 // the last state known to contain it
}

// NewCache returns an empty cache for the states of one file.
func NewCache() *Cache {
	return &Cache{branches: make(map[uint64]*cached), leaves: make(map[uint64]*cached)}
}

// get returns the page of a state if it has been checked against these bounds.
func (c *Cache) get(id, tx uint64, lo, hi []byte) (page, bool) {
	if c == nil {
		return page{}, false
	}
	c.mu.RLock()
	p := c.branches[id]
	if p == nil {
		p = c.leaves[id]
	}
	c.mu.RUnlock()
	if p == nil {
		return page{}, false
	}
	seen := p.tx.Load()
	if seen+1 < tx || seen > tx+1 || !same(p.lo, lo) || !same(p.hi, hi) {
		return page{}, false
	}
	if seen < tx {
		p.tx.CompareAndSwap(seen, tx)
	}
	return p.page, true
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// put adds a page of a state.
func (c *Cache) put(p page, tx uint64, lo, hi []byte, size int) {
	if c == nil || len(p.buf) != size {
		return // longer pages are rare
	}
	e := &cached{page: p, lo: lo, hi: hi}
	e.tx.Store(tx)
	list, most := c.branches, mostBranches
	if p.leaf {
		list, most = c.leaves, mostLeaves
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.branches, p.id) // it may have been of the other type
	delete(c.leaves, p.id)
	if len(list) >= most {
		for id := range list { // any
			delete(list, id)
			break
		}
	}
	list[p.id] = e
}

package pagefile

import (
	"bytes"
	"encoding/binary"
	"sort"
)

// Bucket is a bucket of a view.
type Bucket struct {
	view     *View
	root     uint64
	inline   *page // used instead of a root page
	sequence uint64
}

// Bucket returns a bucket by its name. A missing bucket is empty and counts as damage.
func (v *View) Bucket(name string) *Bucket {
	top := Bucket{view: v, root: v.meta.Root}
	value, flags := top.find([]byte(name))
	if value != nil && flags == flagBucket {
		b, err := v.bucket(value)
		if err == nil {
			return b
		}
		v.fail(v.meta.Root, "a bucket cannot be read")
	}
	v.fail(v.meta.Root, "a bucket is not there")
	return &Bucket{view: v}
}

// bucket decodes the value of a bucket's element.
func (v *View) bucket(value []byte) (*Bucket, error) {
	if len(value) < bucketSize {
		return nil, damaged(v.meta.Root, "a bucket is too short")
	}
	b := &Bucket{view: v, root: binary.LittleEndian.Uint64(value), sequence: binary.LittleEndian.Uint64(value[8:])}
	if b.root == 0 {
		buf := value[bucketSize:]
		if len(buf) < headerSize {
			return nil, damaged(v.meta.Root, "a bucket is too short")
		}
		p, err := parse(0, buf, binary.LittleEndian.Uint16(buf[8:]))
		if err != nil || !p.leaf {
			return nil, damaged(v.meta.Root, "a small bucket cannot be read")
		}
		b.inline = &p
	}
	return b, nil
}

// Sequence returns the bucket's sequence number.
func (b *Bucket) Sequence() uint64 { return b.sequence }

// Get returns the value, nil if there is none.
func (b *Bucket) Get(key []byte) []byte {
	v, _ := b.find(key)
	return v
}

func (b *Bucket) find(key []byte) (v []byte, flags uint32) {
	c := b.Cursor()
	if k, _ := c.Seek(key); !bytes.Equal(k, key) || k == nil {
		return nil, 0
	}
	_, v, flags, _, _ = c.top().element(c.stack[len(c.stack)-1].i)
	if v == nil {
		v = []byte{}
	}
	return v, flags
}

// Cursor iterates in the order of the keys, forward only.
type Cursor struct {
	bucket *Bucket
	stack  []place
	last   []byte   // the previous key: the next must be greater
	room   [4]place // of the stack, deep enough for most files
}

type place struct {
	page
	i      int
	lo, hi []byte // bounds of its keys
}

// Cursor returns a cursor without a position.
func (b *Bucket) Cursor() *Cursor {
	c := &Cursor{bucket: b}
	c.stack = c.room[:0]
	return c
}

func (c *Cursor) top() *page { return &c.stack[len(c.stack)-1].page }

// First returns the first key, nil if there is none.
func (c *Cursor) First() (k, v []byte) { return c.Seek(nil) }

// Seek returns the first key that is not before the given key, nil if there is none.
func (c *Cursor) Seek(key []byte) (k, v []byte) {
	c.stack, c.last = c.stack[:0], nil
	view := c.bucket.view
	if view.err != nil {
		return nil, nil
	}
	if c.bucket.inline != nil {
		if view.err = c.bucket.inline.check(nil, nil); view.err != nil {
			return nil, nil
		}
		c.stack = append(c.stack, place{page: *c.bucket.inline})
	} else if !c.push(c.bucket.root, nil, nil) {
		return nil, nil
	}
	for !c.top().leaf {
		p := c.top()
		if !c.down(p.towards(key)) {
			return nil, nil
		}
	}
	p := c.top()
	c.stack[len(c.stack)-1].i = p.search(key)
	return c.settle()
}

// search returns the first element that is not before the key.
func (p *page) search(key []byte) int {
	return sort.Search(p.n, func(i int) bool {
		k, _, _, _, ok := p.element(i)
		return ok && bytes.Compare(k, key) >= 0
	})
}

// towards returns the child of a branch that has the key, if any child has it.
func (p *page) towards(key []byte) int {
	i := p.search(key)
	if k, _, _, _, _ := p.element(min(i, p.n-1)); i > 0 && (i == p.n || !bytes.Equal(k, key)) {
		i--
	}
	return i
}

// down descends to the i-th child of the branch on top of the stack.
func (c *Cursor) down(i int) bool {
	p := c.top()
	here := &c.stack[len(c.stack)-1]
	here.i = i
	return c.push(p.child(i, here.lo, here.hi))
}

// push descends to a page. It checks the whole page, because a wrong key can hide others.
func (c *Cursor) push(id uint64, lo, hi []byte) bool {
	view := c.bucket.view
	if len(c.stack) >= maxDepth {
		view.fail(id, "the way to it is too long")
		return false
	}
	p, ok := view.cache.get(id, view.meta.Tx, lo, hi)
	if !ok {
		var err error
		if p, err = view.read(id); err == nil {
			err = p.check(lo, hi)
		}
		if err != nil {
			view.err = err
			return false
		}
		view.cache.put(p, view.meta.Tx, lo, hi, view.meta.PageSize)
	}
	c.stack = append(c.stack, place{page: p, lo: lo, hi: hi})
	return true
}

// Next returns the next key, nil at the end.
func (c *Cursor) Next() (k, v []byte) {
	if len(c.stack) == 0 || c.bucket.view.err != nil {
		return nil, nil
	}
	c.stack[len(c.stack)-1].i++
	return c.settle()
}

// settle returns the element at the cursor. At the end of a leaf it first moves on to the
// next one.
func (c *Cursor) settle() (k, v []byte) {
	for c.stack[len(c.stack)-1].i >= c.top().n {
		if c.stack = c.stack[:len(c.stack)-1]; len(c.stack) == 0 {
			return nil, nil
		}
		up := &c.stack[len(c.stack)-1]
		if up.i++; up.i >= up.n {
			continue
		}
		for c.down(c.stack[len(c.stack)-1].i) {
			if c.top().leaf {
				break
			}
		}
		if c.bucket.view.err != nil {
			return nil, nil
		}
	}
	p := c.top()
	k, v, _, _, _ = p.element(c.stack[len(c.stack)-1].i)
	if c.last != nil && bytes.Compare(c.last, k) >= 0 {
		c.bucket.view.fail(p.id, "its keys are out of order")
		return nil, nil
	}
	c.last = k
	return k, v
}

// Package pagefile reads bbolt files without trusting their contents. bbolt maps the file
// and believes what it says: a flipped bit can make it panic, read outside its memory or
// loop forever. This package checks every length before it uses it, bounds every descent
// into the tree, and returns an error for anything that cannot be right.
//
// It is used to check for damage, to copy what is readable into a new file, and for the
// reads of a running service. Only bbolt writes.
package pagefile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// ErrDamaged is wrapped by every error that reports wrong bytes.
var ErrDamaged = errors.New("the file is damaged")

// The layout of bbolt's file, version 2.
const (
	magic      = 0xED0CDAED
	version    = 2
	headerSize = 16
	elemSize   = 16
	metaSize   = 64
	bucketSize = 16 // root and sequence, before the page of an inline bucket
	noFreelist = ^uint64(0)

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of an element

	maxDepth = 32
	maxPage  = 16 << 20 // bytes; bbolt writes none that are larger
)

// Meta is a meta page: the start of a state of the file.
type Meta struct {
	PageSize int
	Root     uint64 // root page of the buckets
	Freelist uint64
	High     uint64 // the first page after those in use
	Tx       uint64 // goes up by one with each write
}

// ReadMetas returns the newest state, and whether the other meta page is good too.
// The error wraps ErrDamaged if there is no valid state.
func ReadMetas(r io.ReaderAt) (m Meta, both bool, err error) {
	var found []Meta
	sizes := []int{os.Getpagesize(), 4096, 8192, 16384, 65536}
	if first, err := readMeta(r, 0); err == nil {
		found, sizes = append(found, first), []int{first.PageSize}
	}
	for _, size := range sizes {
		if second, err := readMeta(r, int64(size)); err == nil && second.PageSize == size {
			found = append(found, second)
			break
		}
	}
	switch {
	case len(found) == 0:
		return Meta{}, false, fmt.Errorf("%w: neither of its first pages can be read", ErrDamaged)
	case len(found) == 2 && found[1].Tx > found[0].Tx:
		return found[1], true, nil
	}
	return found[0], len(found) == 2, nil
}

func readMeta(r io.ReaderAt, at int64) (Meta, error) {
	var b [headerSize + metaSize]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return Meta{}, err
	}
	le, p := binary.LittleEndian, b[headerSize:]
	sum := fnv.New64a()
	_, _ = sum.Write(p[:56])
	m := Meta{PageSize: int(le.Uint32(p[8:])), Root: le.Uint64(p[16:]), Freelist: le.Uint64(p[32:]), High: le.Uint64(p[40:]), Tx: le.Uint64(p[48:])}
	if le.Uint32(p) != magic || le.Uint32(p[4:]) != version || le.Uint64(p[56:]) != sum.Sum64() ||
		m.PageSize < 512 || m.PageSize > 1<<16 || m.Root < 2 || m.Root >= m.High {
		return Meta{}, ErrDamaged
	}
	return m, nil
}

// View is a state of a file. What it returns is valid until the file's writer reuses the
// state's pages. It is not safe for concurrent use.
type View struct {
	r     io.ReaderAt
	meta  Meta
	cache *Cache // may be nil
	err   error
}

// NewView returns a view of the state. It does not read anything yet.
func NewView(r io.ReaderAt, m Meta) *View { return &View{r: r, meta: m} }

// NewCachedView returns a view that reads only the pages that are not in the cache.
func NewCachedView(r io.ReaderAt, m Meta, c *Cache) *View { return &View{r: r, meta: m, cache: c} }

// Err returns the first error, nil if there was none. After an error nothing is found any
// more, so check Err before relying on "not found".
func (v *View) Err() error { return v.err }

func (v *View) fail(id uint64, what string) {
	if v.err == nil {
		v.err = damaged(id, what)
	}
}

func damaged(id uint64, what string) error {
	return fmt.Errorf("%w: page %d: %s", ErrDamaged, id, what)
}

// page is a branch or a leaf.
type page struct {
	id   uint64
	buf  []byte
	leaf bool
	n    int
}

// read reads a branch or a leaf and its page header, but none of its elements.
func (v *View) read(id uint64) (page, error) {
	buf, flags, err := v.raw(id)
	if err != nil {
		return page{}, err
	}
	return parse(id, buf, flags)
}

// raw reads a page of any kind, whole.
func (v *View) raw(id uint64) (buf []byte, flags uint16, err error) {
	if id < 2 || id >= v.meta.High {
		return nil, 0, damaged(id, "it is outside the file")
	}
	size := v.meta.PageSize
	buf = make([]byte, size)
	if err := v.fill(buf, id); err != nil {
		return nil, 0, err
	}
	le := binary.LittleEndian
	if le.Uint64(buf) != id {
		return nil, 0, damaged(id, "it says that it is another page")
	}
	more := uint64(le.Uint32(buf[12:]))
	if more == 0 {
		return buf, le.Uint16(buf[8:]), nil
	}
	if more >= v.meta.High-id || (more+1)*uint64(size) > maxPage {
		return nil, 0, damaged(id, "it says that it is longer than it can be")
	}
	buf = make([]byte, int(more+1)*size)
	if err := v.fill(buf, id); err != nil {
		return nil, 0, err
	}
	return buf, le.Uint16(buf[8:]), nil
}

func (v *View) fill(buf []byte, id uint64) error {
	_, err := v.r.ReadAt(buf, int64(id)*int64(v.meta.PageSize))
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return damaged(id, "the file ends before it")
	case err != nil: // an error of the disk
		return fmt.Errorf("%w: page %d: %w", ErrDamaged, id, err)
	}
	return nil
}

func parse(id uint64, buf []byte, flags uint16) (page, error) {
	p := page{id: id, buf: buf, leaf: flags == flagLeaf, n: int(binary.LittleEndian.Uint16(buf[10:]))}
	switch {
	case flags != flagLeaf && flags != flagBranch:
		return page{}, damaged(id, "it is neither branch nor leaf")
	case headerSize+p.n*elemSize > len(buf), p.n == 0 && !p.leaf:
		return page{}, damaged(id, "it cannot have as many elements as it says")
	}
	return p, nil
}

// element returns the i-th key, with the value and flags of a leaf or the child of a
// branch. ok is false if the element is not inside the page.
func (p *page) element(i int) (k, v []byte, flags uint32, child uint64, ok bool) {
	le, at := binary.LittleEndian, headerSize+i*elemSize
	e := p.buf[at : at+elemSize]
	var pos, ksize, vsize uint64
	if p.leaf {
		flags = le.Uint32(e)
		pos, ksize, vsize = uint64(le.Uint32(e[4:])), uint64(le.Uint32(e[8:])), uint64(le.Uint32(e[12:]))
	} else {
		pos, ksize, child = uint64(le.Uint32(e)), uint64(le.Uint32(e[4:])), le.Uint64(e[8:])
	}
	start := uint64(at) + pos
	if start < uint64(headerSize+p.n*elemSize) || start+ksize+vsize > uint64(len(p.buf)) {
		return nil, nil, 0, 0, false
	}
	return p.buf[start : start+ksize : start+ksize], p.buf[start+ksize : start+ksize+vsize : start+ksize+vsize], flags, child, true
}

// check returns what is wrong within the page: offsets, order, bounds.
func (p *page) check(lo, hi []byte) error {
	var before []byte
	for i := range p.n {
		k, _, flags, _, ok := p.element(i)
		switch {
		case !ok:
			return damaged(p.id, "an element lies outside it")
		case p.leaf && flags > flagBucket:
			return damaged(p.id, "an element is of no known kind")
		case i > 0 && bytes.Compare(before, k) >= 0:
			return damaged(p.id, "its keys are out of order")
		case !within(k, lo, hi):
			return damaged(p.id, "a key is not where it belongs")
		}
		before = k
	}
	return nil
}

// within reports whether the key is at or after lo and before hi; nil means no bound.
func within(k, lo, hi []byte) bool {
	return (lo == nil || bytes.Compare(k, lo) >= 0) && (hi == nil || bytes.Compare(k, hi) < 0)
}

package pagefile

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// maxProblems is how many problems Check and Salvage describe; more are only counted.
const maxProblems = 20

// Report is the result of a check of every page.
type Report struct {
	Pages    int      // of the file's state
	Elements int      // keys that could be read
	Lost     int      // pages whose keys could not be read, or only in part
	Found    int      // pages that were read although nothing points to them any more
	Damaged  int      // how many problems there are
	Problems []string // the first of them, one for each page or place
	Buckets  map[string]Size
}

// Size is the size of a bucket.
type Size struct {
	Keys     int
	Sequence uint64
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return r.Damaged == 0 }

// Check checks every page of the state: each must be of the type that it claims, be used
// once, and have its keys in order. The free pages must be exactly the remaining ones.
func (v *View) Check() Report {
	w := v.walker()
	w.all()
	return w.report
}

// Salvage works like Check, and also calls take for every readable key, with the name of
// its bucket. The name is empty for keys of a page that was found only because it is not
// in the list of free pages: a page above it is damaged. No element is passed twice. The
// arguments of take are valid until it returns. An error of take ends Salvage.
func (v *View) Salvage(take func(bucket string, k, value []byte) error) (Report, error) {
	w := v.walker()
	w.take = take
	w.all()
	for len(w.suspects) > 0 && w.err == nil {
		s := w.suspects[0]
		w.suspects = w.suspects[1:]
		if s.page < v.meta.High && !w.seen[s.page] {
			w.tree(s.bucket, s.page, nil, nil, 0)
		}
	}
	if w.free != nil && w.err == nil {
		w.orphans()
	}
	return w.report, w.err
}

type walker struct {
	view     *View
	seen     []bool
	free     []uint64 // nil: not to be trusted
	suspects []suspect
	take     func(bucket string, k, v []byte) error
	err      error // of take
	report   Report
}

func (v *View) walker() *walker {
	return &walker{view: v, seen: make([]bool, v.meta.High), report: Report{Buckets: make(map[string]Size)}}
}

// suspect is a page that something damaged points to.
type suspect struct {
	bucket string
	page   uint64
}

func (w *walker) problem(err error) {
	w.report.Damaged++
	if len(w.report.Problems) < maxProblems {
		w.report.Problems = append(w.report.Problems, err.Error())
	}
}

func (w *walker) all() {
	w.report.Pages = int(w.view.meta.High)
	w.seen[0], w.seen[1] = true, true
	w.top()
	free, err := w.view.freelist(w.seen)
	if err != nil {
		w.problem(err)
		return
	}
	for _, id := range free {
		if w.seen[id] {
			w.problem(damaged(id, "it is in use and free"))
			return // which of the two is right is unknown
		}
	}
	marked := slices.Clone(w.seen)
	for _, id := range free {
		marked[id] = true
	}
	for id, known := range marked {
		if !known {
			w.problem(damaged(uint64(id), "nothing points to it, and it is not free"))
			w.free = free
		}
	}
}

// top walks the buckets.
func (w *walker) top() {
	w.walk(w.view.meta.Root, nil, nil, 0, func(p *page, k, v []byte, flags uint32) {
		if flags != flagBucket {
			w.problem(damaged(p.id, "there is something beside the buckets"))
			return
		}
		b, err := w.view.bucket(v)
		if err == nil {
			w.report.Buckets[string(k)] = Size{Sequence: b.sequence}
		}
		switch {
		case err != nil:
			w.problem(err)
		case b.inline != nil:
			w.leaf(string(k), b.inline, nil, nil)
		default:
			w.tree(string(k), b.root, nil, nil, 0)
		}
	}, "")
}

func (w *walker) tree(bucket string, id uint64, lo, hi []byte, depth int) {
	w.walk(id, lo, hi, depth, nil, bucket)
}

// walk visits the pages below a page. It passes the elements of the top-level tree, which
// holds the buckets, to each, and the elements of a bucket to the take of Salvage.
func (w *walker) walk(id uint64, lo, hi []byte, depth int, each func(p *page, k, v []byte, flags uint32), bucket string) {
	if w.err != nil {
		return
	}
	if id >= w.view.meta.High || depth > maxDepth || w.seen[id] {
		w.problem(damaged(id, "something points to it that cannot be right"))
		return
	}
	p, err := w.view.read(id)
	if err != nil {
		w.problem(err)
		w.lost(id)
		return
	}
	if first, _, _, _, ok := p.element(0); p.n > 0 && ok && !within(first, lo, hi) {
		w.problem(damaged(id, "its keys are not where they belong"))
		w.suspects = append(w.suspects, suspect{bucket, id})
		return
	}
	w.mark(id, len(p.buf)/w.view.meta.PageSize)
	if err := p.check(lo, hi); err != nil {
		w.problem(err)
		w.report.Lost++
	}
	switch {
	case !p.leaf:
		w.branch(&p, lo, hi, depth, each, bucket)
	case each == nil:
		w.elements(bucket, &p)
	default:
		for i := range p.n {
			if k, v, flags, _, ok := p.element(i); ok {
				each(&p, k, v, flags)
			}
		}
	}
}

func (w *walker) branch(p *page, lo, hi []byte, depth int, each func(p *page, k, v []byte, flags uint32), bucket string) {
	for i := range p.n {
		from, _, _, child, ok := p.element(i)
		if !ok {
			continue // check has reported it
		}
		if i == 0 {
			from = lo // a key before the first goes to the first
		}
		to := hi
		if i+1 < p.n {
			if k, _, _, _, ok := p.element(i + 1); ok {
				to = k
			}
		}
		w.walk(child, from, to, depth+1, each, bucket)
	}
}

// leaf handles a bucket that has no page of its own.
func (w *walker) leaf(bucket string, p *page, lo, hi []byte) {
	if err := p.check(lo, hi); err != nil {
		w.problem(err)
		w.report.Lost++
	}
	w.elements(bucket, p)
}

func (w *walker) elements(bucket string, p *page) {
	for i := range p.n {
		k, v, flags, _, ok := p.element(i)
		if !ok || flags != 0 || w.err != nil {
			continue
		}
		w.report.Elements++
		size := w.report.Buckets[bucket]
		size.Keys++
		w.report.Buckets[bucket] = size
		if w.take != nil {
			w.err = w.take(bucket, k, v)
		}
	}
}

// mark marks the pages as used.
func (w *walker) mark(id uint64, pages int) {
	for i := range uint64(pages) {
		w.seen[id+i] = true
	}
}

// lost records a page that cannot be read. It still counts as in use.
func (w *walker) lost(id uint64) {
	if id >= 2 && id < w.view.meta.High {
		w.seen[id] = true
	}
	w.report.Lost++
}

// orphans reads the leaves that nothing points to and that are not free.
func (w *walker) orphans() {
	for _, id := range w.free {
		w.seen[id] = true
	}
	for id := uint64(2); id < w.view.meta.High && w.err == nil; id++ {
		if w.seen[id] {
			continue
		}
		p, err := w.view.read(id)
		if err != nil {
			continue // the rest of a long page, or damaged
		}
		w.mark(id, len(p.buf)/w.view.meta.PageSize)
		if p.leaf {
			w.report.Found++
			w.elements("", &p)
		}
	}
}

// freelist returns the free pages, and marks the pages of the list itself.
func (v *View) freelist(seen []bool) ([]uint64, error) {
	if v.meta.Freelist == noFreelist {
		return []uint64{}, nil
	}
	buf, flags, err := v.raw(v.meta.Freelist)
	if err != nil {
		return nil, fmt.Errorf("list of free pages: %w", err)
	}
	id, le := v.meta.Freelist, binary.LittleEndian
	n, list := uint64(le.Uint16(buf[10:])), buf[headerSize:]
	if n == 0xFFFF {
		n, list = le.Uint64(list), list[8:]
	}
	if flags != flagFreelist || n > uint64(len(list)/8) {
		return nil, damaged(id, "it is no list of free pages")
	}
	free := make([]uint64, 0, n)
	before := uint64(1)
	for i := range n {
		p := le.Uint64(list[8*i:])
		if p <= before || p >= v.meta.High {
			return nil, damaged(id, "the list of free pages cannot be right")
		}
		free, before = append(free, p), p
	}
	if seen != nil {
		for i := range uint64(len(buf) / v.meta.PageSize) {
			if seen[id+i] {
				return nil, damaged(id, "the list of free pages is something else too")
			}
			seen[id+i] = true
		}
	}
	return free, nil
}

// Used returns the pages of the tree, parents first. It leaves out the two meta pages and
// the list of free pages.
func (v *View) Used() []uint64 {
	var used []uint64
	w := v.walker()
	w.top()
	for id, seen := range w.seen {
		if seen {
			used = append(used, uint64(id))
		}
	}
	return used
}

// Keys returns the keys of a leaf, and none for any other page.
func (v *View) Keys(id uint64) (keys [][]byte) {
	p, err := v.read(id)
	if err != nil || !p.leaf {
		return nil
	}
	for i := range p.n {
		if k, _, _, _, ok := p.element(i); ok {
			keys = append(keys, k)
		}
	}
	return keys
}

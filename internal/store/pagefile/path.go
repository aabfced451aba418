package pagefile

// Guard checks the pages that a write is about to use before bbolt reads them: those on
// the path to a key and, if a key is removed, their siblings, which bbolt may merge. A
// Guard is for one write; it checks no page twice.
type Guard struct {
	view    *View
	good    map[uint64]page // leaves without their bytes
	buckets map[string]*Bucket
}

// NewGuard returns a Guard for the state that the write starts from. It checks the list
// of free pages at once.
func NewGuard(v *View) (*Guard, error) {
	if _, err := v.freelist(nil); err != nil {
		return nil, err
	}
	return &Guard{view: v, good: make(map[uint64]page), buckets: make(map[string]*Bucket)}, nil
}

// Bucket checks the path to a bucket, like Key for a key.
func (g *Guard) Bucket(name string) error {
	if _, ok := g.buckets[name]; ok {
		return nil
	}
	if err := g.way(g.view.meta.Root, []byte(name), true); err != nil {
		return err
	}
	b := g.view.Bucket(name)
	if g.view.err != nil {
		return g.view.err
	}
	if b.inline != nil {
		if err := b.inline.check(nil, nil); err != nil {
			return err
		}
	}
	g.buckets[name] = b
	return nil
}

// Key checks the path to where the key is, or would be, in the bucket. With beside it also
// checks the sibling pages, which are needed to remove the key or to go to the next one.
func (g *Guard) Key(bucket string, key []byte, beside bool) error {
	if err := g.Bucket(bucket); err != nil {
		return err
	}
	b := g.buckets[bucket]
	if b.inline != nil {
		return nil
	}
	return g.way(b.root, key, beside)
}

func (g *Guard) way(id uint64, key []byte, beside bool) error {
	var lo, hi []byte
	for depth := 0; ; depth++ {
		p, err := g.page(id, lo, hi, depth)
		if err != nil || p.leaf {
			return err
		}
		i := p.towards(key)
		for _, j := range []int{i - 1, i + 1} {
			if !beside || j < 0 || j >= p.n {
				continue
			}
			if err := g.edge(&p, j, j > i, lo, hi, depth); err != nil {
				return err
			}
		}
		id, lo, hi = p.child(i, lo, hi)
	}
}

// edge checks a page beside the path, down to the adjacent leaf.
func (g *Guard) edge(p *page, i int, after bool, lo, hi []byte, depth int) error {
	for {
		var id uint64
		id, lo, hi = p.child(i, lo, hi)
		depth++
		next, err := g.page(id, lo, hi, depth)
		if err != nil || next.leaf {
			return err
		}
		if p, i = &next, 0; !after {
			i = next.n - 1
		}
	}
}

// child returns the i-th child of a good page, and the bounds of its keys.
func (p *page) child(i int, lo, hi []byte) (id uint64, from, to []byte) {
	k, _, _, id, _ := p.element(i)
	from, to = k, hi
	if i == 0 {
		from = lo
	}
	if i+1 < p.n {
		to, _, _, _, _ = p.element(i + 1)
	}
	return id, from, to
}

func (g *Guard) page(id uint64, lo, hi []byte, depth int) (page, error) {
	if depth > maxDepth {
		return page{}, damaged(id, "the way to it is too long")
	}
	if p, ok := g.good[id]; ok {
		return p, nil
	}
	p, err := g.view.read(id)
	if err == nil {
		err = p.check(lo, hi)
	}
	if err != nil {
		return page{}, err
	}
	if g.good[id] = p; p.leaf {
		g.good[id] = page{id: id, leaf: true}
	}
	return p, nil
}

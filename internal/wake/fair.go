package wake

// fairQueue is a queue in which keys take turns, so that a key with many items does
// not delay the others. The zero fairQueue is empty and ready. Not safe for
// concurrent use.
type fairQueue[K comparable, T any] struct {
	byKey map[K][]T
	turns []K // keys with items, next one first
}

func (q *fairQueue[K, T]) push(k K, v T) {
	if q.byKey == nil {
		q.byKey = make(map[K][]T)
	}
	if len(q.byKey[k]) == 0 {
		q.turns = append(q.turns, k)
	}
	q.byKey[k] = append(q.byKey[k], v)
}

// pop removes and returns the next item. ok is false if there is none.
func (q *fairQueue[K, T]) pop() (v T, ok bool) {
	if len(q.turns) == 0 {
		return v, false
	}
	k := q.turns[0]
	q.turns = q.turns[1:]
	items := q.byKey[k]
	v = items[0]
	if len(items) == 1 {
		delete(q.byKey, k)
	} else {
		q.byKey[k] = items[1:]
		q.turns = append(q.turns, k)
	}
	return v, true
}

package chaos

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
)

// plan is the order of the faults, which the seed decides.
type plan struct {
	rand   *rand.Rand
	chosen []fault
}

func newPlan(seed uint64, chosen []fault) *plan {
	return &plan{rand: rand.New(rand.NewPCG(seed, 1)), chosen: chosen}
}

// all returns an endless sequence of faults, each once before any is repeated. Every
// second element is a pair of faults that break different parts, if there are such. Each
// has its own random numbers, so that its use of them does not change the next fault.
func (p *plan) all() iter.Seq2[fault, *rand.Rand] {
	return func(yield func(fault, *rand.Rand) bool) {
		for turn := 0; ; {
			round := slices.Clone(p.chosen)
			p.rand.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
			for ; len(round) > 0; turn++ {
				f := round[0]
				round = round[1:]
				other := slices.IndexFunc(round, func(o fault) bool { return o.part != f.part })
				if turn%2 == 1 && other >= 0 {
					f = both(f, round[other])
					round = slices.Delete(round, other, other+1)
				}
				if !yield(f, rand.New(rand.NewPCG(p.rand.Uint64(), 1))) {
					return
				}
			}
		}
	}
}

// both returns two faults at once.
func both(a, b fault) fault {
	return fault{name: a.name + " + " + b.name, run: func(ctx context.Context, w *world, r *rand.Rand) (string, error) {
		var (
			work       sync.WaitGroup
			other      string
			otherError error
			numbers    = rand.New(rand.NewPCG(r.Uint64(), 1))
		)
		work.Go(func() { other, otherError = b.run(ctx, w, numbers) })
		what, err := a.run(ctx, w, r)
		work.Wait()
		switch { // if only one of two was made, it is still a fault
		case errors.Is(err, errNotMade) && otherError == nil:
			what, err = err.Error(), nil
		case errors.Is(otherError, errNotMade) && err == nil:
			other, otherError = otherError.Error(), nil
		}
		return what + " + " + other, errors.Join(err, otherError)
	}}
}

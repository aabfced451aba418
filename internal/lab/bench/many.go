package bench

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// many compares REGISTERs of many known phones with those of few, and measures the size of
// a binding.
func (b *bench) many(ctx context.Context) error {
	few, all := b.register(0, users), b.register(0, b.Bindings)
	heaps := make([]float64, len(b.servers))
	for i, s := range b.servers {
		if err := b.fill(ctx, s, few, users); err != nil {
			return err
		}
		heap, err1 := liveHeap(s.operations)
		redisBefore, err2 := b.redisMemory(ctx)
		if err := errors.Join(err1, err2, b.fill(ctx, s, all, b.Bindings)); err != nil {
			return err
		}
		redisAfter, err := b.redisMemory(ctx)
		if err != nil {
			return err
		}
		heaps[i] = heap
		if s.name == "redis" {
			b.add("binding in Redis, token of 64", "bytes", (redisAfter-redisBefore)/float64(max(1, b.Bindings-max(b.known, users))))
		}
	}
	for range b.Rounds {
		for _, s := range b.servers {
			if err := b.fewToMany(ctx, s, few, all); err != nil {
				return err
			}
		}
	}
	for i, s := range b.servers {
		heap, err := liveHeap(s.operations)
		if err != nil {
			return err
		}
		b.add("binding in memory, "+s.name, "bytes", (heap-heaps[i])/float64(b.Bindings))
	}
	return b.longTokens(ctx)
}

// fewToMany compares one server's REGISTERs of few phones with those of all.
func (b *bench) fewToMany(ctx context.Context, s *server, few, all func(int) []byte) error {
	var times [2]float64
	for i, of := range []struct {
		name string
		body func(int) []byte
	}{{"few", few}, {"many", all}} {
		began, n := time.Now(), 0
		err := b.loaded("register of "+of.name+", "+s.name, s.pid, func() (_ int, err error) {
			n, err = s.flatOut(ctx, b.Round, of.body, accepted)
			return n, err
		})
		if err != nil {
			return err
		}
		times[i] = time.Since(began).Seconds() / float64(n)
	}
	b.add("register time of few to many, "+s.name, "x", times[1]/times[0])
	rate := 1 / times[1] / 4
	f, err1 := s.paced(ctx, rate, b.Round, few, accepted)
	m, err2 := s.paced(ctx, rate, b.Round, all, accepted)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	b.add("register p99 of few to many, "+s.name, "x", p99(m).Seconds()/p99(f).Seconds())
	return nil
}

// longTokens measures the size of bindings with tokens of 140 bytes, in a database of their
// own: another's tables may be about to double.
func (b *bench) longTokens(ctx context.Context) error {
	n := max(b.Bindings/10, 1)
	s, err := b.sipwake(ctx, serverConfig{name: "long-tokens", store: b.redisStore(4)})
	if err != nil {
		return err
	}
	defer s.Stop()
	before, err1 := b.redisMemory(ctx)
	err2 := b.fill(ctx, s, b.registerToken(b.Bindings, n, 140), n)
	after, err3 := b.redisMemory(ctx)
	b.add("binding in Redis, token of 140", "bytes", (after-before)/float64(n))
	return errors.Join(err1, err2, err3)
}

// fill posts the body of each user once.
func (b *bench) fill(ctx context.Context, s *server, body func(int) []byte, users int) error {
	return s.each(ctx, users, body, accepted)
}

// liveHeap returns the heap after the last garbage collection, which is half of the next
// collection's target.
func liveHeap(operations string) (float64, error) {
	next, err := gauge(operations, "go_memstats_next_gc_bytes")
	return next / 2, err
}

func (b *bench) redisMemory(ctx context.Context) (float64, error) {
	client := goredis.NewClient(&goredis.Options{Addr: b.redis.Address()})
	defer func() { _ = client.Close() }()
	text, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "used_memory:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, errors.New("no used_memory in Redis' INFO")
}

// redisAlone measures Redis alone with SET of a value as long as a binding's, one by one
// and in pipelines.
func (b *bench) redisAlone(ctx context.Context) error {
	client := goredis.NewClient(&goredis.Options{Addr: b.redis.Address(), PoolSize: connections})
	defer func() { _ = client.Close() }()
	value := make([]byte, 300)
	for _, way := range []struct {
		name  string
		batch int
	}{{"SET", 1}, {"SET in pipelines", connections}} {
		err := b.loaded("Redis alone, "+way.name, b.redis.PID(), func() (int, error) {
			ctx, cancel := context.WithTimeout(ctx, b.Round/2)
			defer cancel()
			var wg sync.WaitGroup
			counts := make([]int, connections)
			for i := range connections {
				wg.Go(func() {
					for ctx.Err() == nil {
						p := client.Pipeline()
						for range way.batch {
							p.Set(ctx, "bench:"+strconv.Itoa(i), value, 0)
						}
						if _, err := p.Exec(ctx); err == nil {
							counts[i] += way.batch
						}
					}
				})
			}
			wg.Wait()
			sum := 0
			for _, n := range counts {
				sum += n
			}
			return sum, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

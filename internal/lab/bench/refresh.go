package bench

import (
	"context"
	"time"
)

// lookEvery is the interval of searches for due refreshes here.
const lookEvery = time.Second

// looks is the number of searches in one measurement.
const looks = 2

// refresh compares the cost of a search for due refresh pushes that finds none, with few
// bindings and with many. It includes the cost in the store.
func (b *bench) refresh(ctx context.Context) error {
	const looking = "wake: {refresh: {enabled: true, every: 1s}}\n"
	for _, c := range []struct {
		name, few, many string
		main            *server
	}{
		{"local", b.localStore("few.db"), b.localStore("bindings.db"), b.servers[0]},
		{"redis", b.redisStore(1), b.redisStore(0), b.servers[1]},
	} {
		if b.Only != "" { // nobody has filled it
			if err := b.fill(ctx, c.main, b.register(0, b.Bindings), b.Bindings); err != nil {
				return err
			}
		}
		c.main.Stop() // it holds the file
		for _, of := range []struct{ name, store string }{{"few", c.few}, {"many", c.many}} {
			s, err := b.sipwake(ctx, serverConfig{name: of.name + "-" + c.name, store: of.store, wake: looking})
			if err != nil {
				return err
			}
			if of.name == "few" {
				if err := b.fill(ctx, s, b.register(0, users), users); err != nil {
					return err
				}
			}
			if err := settle(ctx, s.pid); err != nil {
				return err
			}
			for range b.Rounds {
				err := b.loaded("refresh look, "+of.name+", "+c.name, s.pid, func() (int, error) {
					redisBefore, err := cpuOf(b.redis.PID())
					if err != nil {
						return 0, err
					}
					time.Sleep(looks * lookEvery)
					redisAfter, err := cpuOf(b.redis.PID())
					b.add("refresh look cpu of Redis, "+of.name+", "+c.name, "µs", float64((redisAfter-redisBefore).Microseconds())/looks)
					return looks, err
				})
				if err != nil {
					return err
				}
			}
			s.Stop()
		}
		few := median(b.find("refresh look, " + "few, " + c.name + " cpu").values)
		many := median(b.find("refresh look, " + "many, " + c.name + " cpu").values)
		if c.name == "redis" {
			few += median(b.find("refresh look cpu of Redis, few, redis").values)
			many += median(b.find("refresh look cpu of Redis, many, redis").values)
		}
		b.add("refresh look of few to many, "+c.name, "x", many/max(few, leastLook))
	}
	return nil
}

// leastLook is the smallest CPU time of a search that can be told from none, in µs.
const leastLook = float64(tick/looks) / float64(time.Microsecond)

// longestStart bounds how long settle waits.
const longestStart = 2 * time.Minute

// settle waits until a process has done the work of its start: its first search for due
// refreshes reads all bindings.
func settle(ctx context.Context, pid int) error {
	for began := time.Now(); time.Since(began) < longestStart && ctx.Err() == nil; {
		before, err := cpuOf(pid)
		if err != nil {
			return err
		}
		time.Sleep(2 * lookEvery)
		after, err := cpuOf(pid)
		if err != nil {
			return err
		}
		if after-before <= 2*tick {
			break
		}
	}
	return ctx.Err()
}

// Package bench measures sipwake as its users see it: whole processes on this machine,
// under load over HTTP, with simulated push services. It measures the CPU time that the
// operating system accounts to a process, and ratios within a round. Rates would say more
// about the load generator and the machine.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Config says what to measure and for how long.
type Config struct {
	Program  string        // the sipwake binary
	Against  string        // another one, measured in the same rounds; empty for none
	Round    time.Duration // of one measurement
	Rounds   int           // how often everything is measured; the median counts
	Bindings int           // for the figures that depend on the number of bindings
	Only     string        // measure this part alone; empty for all
}

const (
	connections = 64
	users       = 1000
	callers     = 256
	callees     = 80 // of each caller, so that the last wake of a callee is over before the next call
)

// Run measures, and prints a table and one line for each budget, also of what was
// measured before an error. A missed budget is no error.
func Run(ctx context.Context, c Config) error {
	s, err := newStage(ctx, c.Program)
	if err != nil {
		return err
	}
	defer s.close()
	b := &bench{Config: c, stage: s}
	defer func() {
		b.print(os.Stdout)
		b.judge(os.Stdout)
	}()
	parts := []struct {
		name string
		f    func(context.Context) error
	}{{"start", b.start}, {"rounds", b.rounds}, {"many", b.many}, {"new", b.newOnes}, {"refresh", b.refresh}}
	for _, part := range parts {
		if !c.wants(part.name) {
			continue
		}
		began := time.Now()
		if err := part.f(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %.0f s\n", part.name, time.Since(began).Seconds())
	}
	return nil
}

// wants reports whether to measure a part.
func (c *Config) wants(part string) bool {
	switch c.Only {
	case "", part:
		return true
	case "registers", "calls":
		return part == "start" || part == "rounds"
	}
	return part == "start"
}

type bench struct {
	Config
	*stage
	figures
	servers []*server // local, redis, and the same of the other program
	quiet   []*server // they answer no caller while a phone is woken
	gorush  *gorush   // nil if there is none

	known int          // users that are registered for the rounds
	seq   atomic.Int64 // CSeq of REGISTERs
	call  atomic.Int64
}

// start starts the servers and measures their memory at rest.
func (b *bench) start(ctx context.Context) error {
	for _, c := range []serverConfig{
		{name: "local", store: b.localStore("bindings.db")},
		{name: "redis", store: b.redisStore(0)},
		{name: "against local", program: b.Against, store: b.localStore("against.db")},
		{name: "against redis", program: b.Against, store: b.redisStore(3)},
	} {
		if strings.HasPrefix(c.name, "against") && b.Against == "" {
			continue
		}
		s, err := b.sipwake(ctx, c)
		if err != nil {
			return err
		}
		b.servers = append(b.servers, s)
		n, err := gauge(s.operations, "process_resident_memory_bytes")
		if err != nil {
			return err
		}
		b.add("memory idle, "+s.name, "MiB", n/(1<<20))
	}
	return nil
}

// rounds measures one thing after the other, and then all again.
func (b *bench) rounds(ctx context.Context) error {
	echo, stop, err := startEcho(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, s := range b.servers {
		if err := b.fill(ctx, s, b.register(0, callers*callees), callers*callees); err != nil {
			return err
		}
	}
	b.known = callers * callees
	if b.Only != "registers" {
		if err := b.startPeers(ctx); err != nil {
			return err
		}
	}
	err = b.allRounds(ctx, echo)
	b.stopPeers()
	if err != nil || b.Only != "" {
		return err
	}
	return b.emptyRedis(ctx)
}

// allRounds measures what Only asks for in each round.
func (b *bench) allRounds(ctx context.Context, echo *echoServer) error {
	for range b.Rounds {
		if b.Only != "calls" {
			if err := errors.Join(b.registers(ctx, echo), b.redisAlone(ctx)); err != nil {
				return err
			}
		}
		if b.Only == "registers" {
			continue
		}
		if err := b.calls(ctx); err != nil {
			return err
		}
		if b.Only == "calls" {
			continue
		}
		if err := b.latency(ctx, echo); err != nil {
			return err
		}
	}
	return nil
}

// emptyRedis removes what the rounds have left, and what is still to be written of their
// calls. Else it would count as memory of the bindings that are measured next, and Redis'
// tables would be as large as all of them need.
func (b *bench) emptyRedis(ctx context.Context) error {
	client := goredis.NewClient(&goredis.Options{Addr: b.redis.Address()})
	defer func() { _ = client.Close() }()
	for i, s := range b.servers {
		if s.name != "redis" {
			continue
		}
		s.Stop()
		if err := client.FlushAll(ctx).Err(); err != nil {
			return err
		}
		again, err := b.sipwake(ctx, serverConfig{name: s.name, store: b.redisStore(0)})
		if err != nil {
			return err
		}
		b.servers[i] = again
	}
	b.known = 0
	return nil
}

// loaded measures the CPU time of a process for each operation, and the rate.
func (b *bench) loaded(what string, pid int, f func() (int, error)) error {
	began := time.Now()
	n := 0
	each, err := spent(pid, func() (_ int, err error) { n, err = f(); return n, err })
	if err != nil {
		return err
	}
	b.add(what+" cpu", "µs", each)
	b.add(what+" rate", "1/s", float64(n)/time.Since(began).Seconds())
	return nil
}

// registers measures REGISTERs of known phones against a bare echo of the same bytes.
func (b *bench) registers(ctx context.Context, echo *echoServer) error {
	body := b.register(0, users)
	err := b.loaded("echo", echo.pid, func() (int, error) { return echo.flatOut(ctx, b.Round, body, anything) })
	if err != nil {
		return err
	}
	for _, s := range b.servers {
		redisBefore, err1 := cpuOf(b.redis.PID())
		n := 0
		err2 := b.loaded("register, "+s.name, s.pid, func() (_ int, err error) {
			n, err = s.flatOut(ctx, b.Round, body, accepted)
			return n, err
		})
		redisAfter, err3 := cpuOf(b.redis.PID())
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		if of, ok := strings.CutSuffix(s.name, "redis"); ok {
			b.add(strings.TrimSpace("register cpu of Redis "+of), "µs", float64((redisAfter-redisBefore).Microseconds())/float64(n))
		}
		b.ratio("register cpu of the echo's, "+s.name, "register, "+s.name+" cpu", "echo cpu")
	}
	return nil
}

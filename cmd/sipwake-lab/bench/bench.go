// Package bench measures sipwake as its users see it: whole processes on this
// machine, under load over HTTP, with simulated push services. What counts are the
// ratios of one run; absolute figures say more about the machine.
package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"github.com/sipwake/sipwake/pnparam"
	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/apns"
	"github.com/sipwake/sipwake/secret"
)

// Config says what to measure and for how long.
type Config struct {
	Program  string        // the sipwake binary
	Round    time.Duration // of one measurement
	Rounds   int           // of each, of which the median counts
	Bindings int           // for the figures that depend on how many there are
}

const (
	connections = 64
	users       = 1000
	callers     = 256
	callees     = 80 // of each caller: one is called again when his last wake is over
)

// Run measures and prints one line a figure, with its budget.
func Run(ctx context.Context, c Config) error {
	s, err := newStage(ctx, c.Program)
	if err != nil {
		return err
	}
	defer s.close()
	b := &bench{Config: c, stage: s}
	for _, measure := range []func(context.Context) error{b.memory, b.registers, b.pushes, b.latency, b.many} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return nil
}

type bench struct {
	Config
	*stage
	redisServer, localServer *server

	seq  atomic.Int64 // CSeq of REGISTERs
	call atomic.Int64
}

// report prints a figure beside its budget.
func report(what string, value float64, unit string, budget string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "MISSED"
	}
	fmt.Printf("%-58s %10.2f %-6s  budget %-10s %s\n", what, value, unit, budget, verdict)
}

// memory starts the servers and takes what they need at rest.
func (b *bench) memory(ctx context.Context) (err error) {
	if b.redisServer, err = b.sipwake(ctx, "redis", b.redisStore()); err != nil {
		return err
	}
	if b.localServer, err = b.sipwake(ctx, "local", b.localStore()); err != nil {
		return err
	}
	for _, s := range []*server{b.redisServer, b.localServer} {
		n, err := resident(s.operations)
		if err != nil {
			return err
		}
		report("idle memory, "+s.name, n/(1<<20), "MiB", "<= 40", n <= 40<<20)
	}
	return nil
}

func token(n int) string { return fmt.Sprintf("%064x", n+0xabc0000) }

// register returns REGISTERs of phones that are known, or become so: of a number
// of users, far apart one after the other.
func (b *bench) register(users int) func(n int) []byte {
	return func(n int) []byte {
		user := n * 7919 % users
		cseq := b.seq.Add(1)
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"binding.register","params":{"node":"%s","aor":"user%d@example.com",`+
			`"contact":"<sip:user%d@192.0.2.7:5070;pn-provider=apns;pn-param=%s.%s.voip;pn-prid=%s>;+sip.instance=\"<urn:uuid:00000000-0000-4000-8000-%012x>\"",`+
			`"call_id":"register-%d","cseq":%d,"expires":600,"source":"tls:192.0.2.7:5070","user_agent":"phone/1"}}`,
			n, node, user, user, team, bundle, token(user), user, user, cseq)
	}
}

func accepted(answer []byte) error {
	if bytes.Contains(answer, []byte(`"error"`)) {
		return fmt.Errorf("refused: %.200s", answer)
	}
	return nil
}

// registers compares REGISTERs of known phones with a bare echo of the same bytes.
func (b *bench) registers(ctx context.Context) error {
	echo, stop, err := startEcho(ctx)
	if err != nil {
		return err
	}
	defer stop()
	echoed := func([]byte) error { return nil }
	var bare, viaRedis, viaFile, redisRatio, fileRatio []float64
	body := b.register(users)
	for range b.Rounds {
		e, err1 := echo.flatOut(ctx, b.Round, body, echoed)
		r, err2 := b.redisServer.flatOut(ctx, b.Round, body, accepted)
		f, err3 := b.localServer.flatOut(ctx, b.Round, body, accepted)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		bare, viaRedis, viaFile = append(bare, e), append(viaRedis, r), append(viaFile, f)
		redisRatio, fileRatio = append(redisRatio, r/e), append(fileRatio, f/e)
	}
	fmt.Printf("bare echo %.0f/s, binding.register through Redis %.0f/s, embedded %.0f/s (medians of %d)\n",
		median(bare), median(viaRedis), median(viaFile), b.Rounds)
	report("binding.register through Redis, of a bare echo", median(redisRatio), "x", ">= 0.50", median(redisRatio) >= .5)
	report("refreshes with the embedded store, of a bare echo", median(fileRatio), "x", ">= 0.70", median(fileRatio) >= .7)
	return nil
}

// pushes compares wake.start, to the push service's 200, with a bare loop over the
// same provider's client.
func (b *bench) pushes(ctx context.Context) error {
	client, err := b.bareClient()
	if err != nil {
		return err
	}
	defer client.Close()
	for _, s := range []*server{b.redisServer, b.localServer} {
		if err := b.fill(ctx, s, callers*callees); err != nil {
			return err
		}
	}
	var bare, whole, ratio []float64
	for range b.Rounds {
		p, err := b.barePushes(ctx, client)
		if err != nil {
			return err
		}
		w, err := b.wakes(ctx)
		if err != nil {
			return err
		}
		bare, whole, ratio = append(bare, p), append(whole, w), append(ratio, w/p)
	}
	fmt.Printf("bare APNs client %.0f pushes/s, wake.start to APNs' 200 %.0f/s (medians of %d)\n", median(bare), median(whole), b.Rounds)
	report("wake.start to the push service's 200, of a bare client", median(ratio), "x", ">= 0.60", median(ratio) >= .6)
	return nil
}

func (b *bench) bareClient() (push.Provider, error) {
	c := apns.Config{BundleID: bundle, TeamID: team, KeyID: keyID, KeyFile: filepath.Join(b.dir, "AuthKey_"+keyID+".p8"),
		Endpoint: b.apns.URL(), CAFile: filepath.Join(b.dir, "ca.pem")}
	c.SetDefaults()
	apps, err := c.Apps(slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	for _, other := range apps[1:] {
		other.Client.Close()
	}
	return apps[0].Client, nil
}

func (b *bench) barePushes(ctx context.Context, client push.Provider) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, b.Round)
	defer cancel()
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for i := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := push.Notification{Kind: push.Call, Service: pnparam.VoIP, Token: secret.NewToken(token(i)), Payload: payload,
					Deadline: time.Now().Add(30 * time.Second), Delivery: push.Delivery{Priority: push.High, PushType: push.TypeVoIP}}
				if reply := client.Push(context.WithoutCancel(ctx), &n); reply.Reason != push.Accepted {
					failed.Add(1)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 {
		return 0, errors.New("a push of the bare client failed")
	}
	return float64(done.Load()) / time.Since(began).Seconds(), nil
}

// payload is about as long as the one that sipwake sends.
var payload = []byte(`{"aps":{"content-available":1},"ntype":0,"nfromusername":"alice","nfrom":"sip:alice@example.com","nmsg":"",` +
	`"ncallid":"call-123456","ntousr":"user12345@example.com","handle":"alice","callUUID":"0193e1c4-0000-7000-8000-000000000001"}`)

// start is the n-th call of a caller, to one of the users that are his alone.
func start(caller, n int) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"wake.start","params":{"node":"%s","aor":"user%d@example.com","call_id":"call-%d-%d",`+
		`"call":"%d-%d","kind":"call","from":"sip:caller%d@example.com","display":"Alice","hold_s":1}}`,
		node, caller*callees+n%callees, caller, n, caller, n, caller)
}

// wakes has callers start a wake each and wait for its push, again and again.
func (b *bench) wakes(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, b.Round)
	defer cancel()
	var done atomic.Int64
	var once sync.Once
	var failed error
	var wg sync.WaitGroup
	began := time.Now()
	for i := range callers {
		delivered := make(chan struct{}, 1)
		for n := range callees {
			b.apns.OnDeliver(token(i*callees+n), func([]byte, http.Header) {
				select {
				case delivered <- struct{}{}:
				default: // the round is over
				}
			})
		}
		wg.Go(func() {
			var req fasthttp.Request
			var res fasthttp.Response
			for ctx.Err() == nil {
				answer, err := b.localServer.post(&req, &res, start(i, int(b.call.Add(1))))
				if err == nil && !bytes.Contains(answer, []byte(`"pushing"`)) {
					err = fmt.Errorf("no push: %.200s", answer)
				}
				if err != nil {
					once.Do(func() { failed = err })
					cancel()
					return
				}
				select {
				case <-delivered:
					done.Add(1)
				case <-time.After(20 * time.Second):
					once.Do(func() { failed = errors.New("a push was not delivered") })
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), failed
}

// latency takes how long wake.start takes at a quarter of the peak rate.
func (b *bench) latency(ctx context.Context) error {
	for caller := range callers {
		for n := range callees {
			b.apns.OnDeliver(token(caller*callees+n), nil)
		}
	}
	body := func(int) []byte {
		n := int(b.call.Add(1))
		return start(n%callers, n/callers)
	}
	for _, s := range []*server{b.redisServer, b.localServer} {
		peak, err := s.flatOut(ctx, b.Round, body, accepted)
		if err != nil {
			return err
		}
		took, err := s.paced(ctx, peak/4, b.Round, body, accepted)
		if err != nil {
			return err
		}
		p99 := quantile(took, .99)
		report(fmt.Sprintf("p99 of wake.start at %.0f/s, %s", peak/4, s.name), float64(p99)/1e6, "ms", "<= 2", p99 <= 2*time.Millisecond)
	}
	return nil
}

// many compares REGISTERs of many known phones with those of few, and takes the
// room that a binding needs in Redis.
func (b *bench) many(ctx context.Context) error {
	before, err := b.redisMemory(ctx)
	if err != nil {
		return err
	}
	for _, s := range []*server{b.redisServer, b.localServer} {
		few, all := b.register(users), b.register(b.Bindings)
		if err := b.fill(ctx, s, b.Bindings); err != nil {
			return err
		}
		var ratios []float64
		for range b.Rounds {
			f, err1 := s.flatOut(ctx, b.Round, few, accepted)
			m, err2 := s.flatOut(ctx, b.Round, all, accepted)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			ratios = append(ratios, f/m)
		}
		r := median(ratios)
		report(fmt.Sprintf("refreshes, of %d bindings to of %d, %s", users, b.Bindings, s.name), r, "x", "<= 1.2", r <= 1.2)
	}
	after, err := b.redisMemory(ctx)
	if err != nil {
		return err
	}
	each := (after - before) / float64(b.Bindings-callers*callees)
	report("Redis' used_memory for a binding", each, "bytes", "<= 600", each <= 600)
	return nil
}

// fill registers so many users once.
func (b *bench) fill(ctx context.Context, s *server, users int) error {
	body := b.register(users)
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, connections)
	for range connections {
		wg.Go(func() {
			var req fasthttp.Request
			var res fasthttp.Response
			for n := int(next.Add(1)); n <= users && ctx.Err() == nil; n = int(next.Add(1)) {
				answer, err := s.post(&req, &res, body(n))
				if err == nil {
					err = accepted(answer)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	return <-failed
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

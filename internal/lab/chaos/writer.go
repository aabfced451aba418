package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// writers is how many REGISTERs are under way at most.
const writers = 6

// attempt is one binding.register.
type attempt struct {
	cseq  uint32
	token string
}

// account has what one AOR was promised.
type account struct {
	aor   string
	acked attempt
	later []attempt // than acked: these may have been stored
	token string
	cseq  uint32
}

// writer registers bindings like a proxy: at the instance of its node, or at another one
// if that refuses. It records what was acknowledged.
type writer struct {
	w        *world
	accounts []*account
	rate     float64 // REGISTERs a second
	work     sync.WaitGroup

	mu      sync.Mutex
	acked   int
	refused int
	delays  []time.Duration // since the last look
}

func newWriter(w *world, accounts int, rate float64) *writer {
	wr := &writer{w: w, rate: rate}
	for i := range accounts {
		wr.accounts = append(wr.accounts, &account{aor: fmt.Sprintf("user%03d@%s", i, domain)})
	}
	return wr
}

// run writes until ctx ends. Each goroutine has its own accounts, so that the order of an
// account's REGISTERs is known.
func (wr *writer) run(ctx context.Context, seed uint64) {
	for i := range writers {
		r := rand.New(rand.NewPCG(seed, uint64(100+i)))
		wr.work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				a := wr.accounts[i+writers*r.IntN(len(wr.accounts)/writers)]
				wr.write(ctx, a, i, r)
				sleep(ctx, time.Duration((0.5+r.Float64())*writers/wr.rate*float64(time.Second)))
			}
		})
	}
}

func (wr *writer) write(ctx context.Context, a *account, i int, r *rand.Rand) {
	a.cseq++
	if a.token == "" || r.IntN(3) == 0 {
		a.token = fmt.Sprintf("fcm-token-%s-%06d", a.aor[:7], a.cseq)
	}
	now := attempt{a.cseq, a.token}
	a.later = append(a.later, now)
	n := i % len(wr.w.nodes)
	body, err := request("binding.register", map[string]any{
		"node": wr.w.nodes[n].name, "aor": a.aor, "call_id": "registration-of-" + a.aor, "cseq": a.cseq, "expires": 3600,
		"contact": fmt.Sprintf("<sip:%s:5060;pn-provider=fcm;pn-param=%s;pn-prid=%s>;+sip.instance=\"<urn:uuid:%s>\"",
			a.aor, project, a.token, a.aor[:7]),
		"source": "udp:192.0.2.1:5060",
	})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	began := time.Now()
	answer, _, err := wr.w.calls.post(context.WithoutCancel(ctx), i%len(wr.w.sipwakes), body, func(int) {})
	var res struct{ Status string }
	if err == nil {
		err = readResult(answer, &res)
	}
	ok := err == nil && (res.Status == "stored" || res.Status == "refreshed")
	if ok {
		a.acked, a.later = now, nil
	}
	wr.mu.Lock()
	defer wr.mu.Unlock()
	wr.delays = append(wr.delays, time.Since(began))
	if ok {
		wr.acked++
	} else {
		wr.refused++
	}
}

// look returns the counts so far and the slowest calls since the last look.
func (wr *writer) look() (acked, refused int, p99, most time.Duration) {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	d := wr.delays
	wr.delays = nil
	if len(d) > 0 {
		slices.Sort(d)
		p99, most = d[len(d)*99/100], d[len(d)-1]
	}
	return wr.acked, wr.refused, p99, most
}

// lost compares the stored bindings with the acknowledged ones, and returns a line for
// each lost one. No writer may run.
func (wr *writer) lost(ctx context.Context) ([]string, error) {
	type binding struct {
		AOR    string
		CSeq   uint32
		Tokens []struct{ Token string }
	}
	stored := make(map[string]binding)
	for cursor := ""; ; {
		var page struct {
			Bindings []binding
			Cursor   string
		}
		if err := wr.w.calls.call(ctx, 0, "binding.export", map[string]any{"cursor": cursor}, &page); err != nil {
			return nil, fmt.Errorf("cannot read the bindings: %w", err)
		}
		for _, b := range page.Bindings {
			stored[b.AOR] = b
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	var lost []string
	for _, a := range wr.accounts {
		if a.acked.cseq == 0 {
			continue
		}
		b, ok := stored[a.aor]
		good := ok && len(b.Tokens) == 1 && (b.Tokens[0].Token == a.acked.token ||
			slices.ContainsFunc(a.later, func(l attempt) bool { return l.token == b.Tokens[0].Token }))
		if !good {
			lost = append(lost, fmt.Sprintf("%s: acknowledged %d %s, attempted later %v, stored %d %v",
				a.aor, a.acked.cseq, a.acked.token, a.later, b.CSeq, b.Tokens))
		}
	}
	return lost, nil
}

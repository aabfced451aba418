package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// pipe sends the commands of many RPCs to Redis together.
type pipe interface {
	// submit sends the command, in the order of the calls, and does not wait.
	submit(p *pending)
	// Len returns how many commands wait to be sent.
	Len() int
	// Close returns when every command has its answer.
	Close() error
}

// pending is a command on its way.
type pending struct {
	cmd  goredis.Cmder
	ctx  context.Context     // ends the wait, not the command
	auto *goredis.AutoFuture // in a cluster; the rest is for others
	// ready gets a value when the command has been answered or ctx has ended (left). Until
	// then the pipe owns cmd; if left is set, for ever. It is nil if nobody waits.
	ready chan struct{}
	left  bool
}

// submit sends a command and does not wait.
func (s *Store) submit(ctx context.Context, cmd goredis.Cmder) *pending {
	p := &pending{cmd: cmd, ctx: ctx, ready: make(chan struct{}, 1)}
	s.pipe.submit(p)
	return p
}

// post sends a command whose answer nobody waits for.
func (s *Store) post(ctx context.Context, cmd goredis.Cmder) {
	s.pipe.submit(&pending{cmd: cmd, ctx: ctx})
}

// wait returns the command's error when it has been answered, or the context's when that
// ends. It must be called only once.
func (p *pending) wait() error {
	if p.auto != nil {
		return p.auto.WaitContext(p.ctx)
	}
	<-p.ready
	if p.left {
		return p.ctx.Err()
	}
	return p.cmd.Err()
}

func newPipe(client goredis.UniversalClient, queue int) (pipe, error) {
	c, ok := client.(*goredis.ClusterClient)
	if !ok {
		return newBatches(client, queue), nil
	}
	p, err := c.AsyncAutoPipeline()
	return clusterPipe{p}, err
}

// clusterPipe is the pipeline of go-redis, which has a queue for each part of a cluster.
type clusterPipe struct{ *goredis.AutoPipeliner }

func (c clusterPipe) submit(p *pending) {
	f := c.Submit(p.ctx, p.cmd)
	p.auto = &f
}

const (
	// mostInBatch bounds the commands of one write.
	mostInBatch = 300
	// lookForEnds is how often contexts are asked whether they have ended. An RPC that Redis
	// does not answer ends that much after its deadline. In exchange, one that Redis answers
	// needs no timer.
	lookForEnds = 5 * time.Millisecond
)

// batches sends commands to one server: at once if none is on its way, else together with
// all that came until the last ones were answered. Unlike go-redis' pipeline it never
// waits for more, and wakes nothing but those who wait for an answer.
type batches struct {
	client goredis.UniversalClient
	most   int // commands that may wait

	mu      sync.Mutex
	queue   []*pending // to be sent
	spare   []*pending // the next queue
	sending []*pending // on their way
	running bool       // a goroutine sends them
	closed  bool
	idle    sync.Cond
	ends    *time.Timer
	cmds    []goredis.Cmder // room for a batch
}

func newBatches(client goredis.UniversalClient, most int) *batches {
	b := &batches{client: client, most: most}
	b.idle.L = &b.mu
	return b
}

// submit implements pipe.
func (b *batches) submit(p *pending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		p.refuse(goredis.ErrClosed)
		return
	case len(b.queue)+len(b.sending) >= b.most:
		p.refuse(goredis.ErrAutoPipelineQueueFull)
		return
	}
	b.queue = append(b.queue, p)
	if !b.running {
		b.running = true
		if b.ends == nil {
			b.ends = time.AfterFunc(lookForEnds, b.leave)
		}
		go b.run()
	}
}

func (p *pending) refuse(err error) {
	p.cmd.SetErr(err)
	p.done()
}

func (p *pending) done() {
	if p.ready != nil && !p.left {
		p.ready <- struct{}{}
	}
}

// run sends until nothing is left.
func (b *batches) run() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) > 0 {
		b.sending, b.queue, b.spare = b.queue, b.spare[:0], nil
		b.mu.Unlock()
		b.exec(b.sending)
		b.mu.Lock()
		answered := b.sending
		b.sending = nil
		b.mu.Unlock()
		for _, p := range answered { // leave does not see them any more
			p.done()
		}
		clear(answered)
		b.mu.Lock()
		b.spare = answered[:0]
	}
	b.running = false
	b.idle.Broadcast()
}

// exec sends the commands. After one batch whose connection failed it sends no others.
func (b *batches) exec(all []*pending) {
	var failed error
	for len(all) > 0 {
		batch := all[:min(len(all), mostInBatch)]
		all = all[len(batch):]
		if failed != nil {
			for _, p := range batch {
				p.cmd.SetErr(failed)
			}
			continue
		}
		cmds := b.cmds[:0]
		for _, p := range batch {
			cmds = append(cmds, p.cmd)
		}
		failed = b.send(cmds)
		clear(cmds)
		b.cmds = cmds
	}
}

// send returns an error if the connection failed. Every command has its own error.
func (b *batches) send(cmds []goredis.Cmder) (failed error) {
	defer func() {
		if v := recover(); v != nil {
			failed = fmt.Errorf("cannot send to Redis: %v", v)
			for _, cmd := range cmds {
				cmd.SetErr(failed)
			}
		}
	}()
	p := b.client.Pipeline()
	_ = p.BatchProcess(context.Background(), cmds...) // it only notes them
	_, err := p.Exec(context.Background())
	if err == nil {
		return nil
	}
	none := true
	for _, cmd := range cmds {
		none = none && cmd.Err() == nil
	}
	if none { // Redis refused the login: go-redis leaves that to the caller
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return err
	}
	var answer goredis.Error
	if errors.As(err, &answer) { // that of a command
		return nil
	}
	return err
}

// leave ends the waiting of those whose contexts have ended.
func (b *batches) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, list := range [][]*pending{b.sending, b.queue} {
		for _, p := range list {
			if p.ready != nil && !p.left && p.ctx.Err() != nil {
				p.left = true
				p.ready <- struct{}{}
			}
		}
	}
	if b.ends = nil; b.running {
		b.ends = time.AfterFunc(lookForEnds, b.leave)
	}
}

// Len implements pipe.
func (b *batches) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// Close implements pipe.
func (b *batches) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for b.running {
		b.idle.Wait()
	}
	if b.ends != nil {
		b.ends.Stop()
	}
	return nil
}

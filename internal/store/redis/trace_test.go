package redis_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/trace"
)

// traceContract runs the suite; each of its stores has a prefix of its own.
func traceContract(t *testing.T, c redis.Config) {
	var n atomic.Int64
	storetest.RunTraces(t, func(t *testing.T, o trace.Config) trace.Store {
		c := c
		c.Prefix = fmt.Sprintf("test-traces%d:", n.Add(1))
		c.Timeout = 20 * time.Second
		return open(t, c).Traces(o)
	})
}

func TestTraces(t *testing.T) {
	traceContract(t, redis.Config{Addresses: []string{storetest.StartRedis(t)}})
}

// Every key has an end, and none is left when the last call is forgotten.
func TestTraceKeys(t *testing.T) {
	addr := storetest.StartRedis(t)
	s := open(t, redis.Config{Addresses: []string{addr}}).Traces(trace.Config{Retention: time.Hour})
	c := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	one := storetest.Timeline(1, "one")
	one.StartedAt = time.Now()
	if _, err := s.Put(ctx, []trace.Timeline{one}); err != nil {
		t.Fatal(err)
	}
	keys := c.Keys(ctx, "*").Val()
	if len(keys) < 8 {
		t.Errorf("keys %q", keys)
	}
	for _, key := range keys {
		if d := c.PTTL(ctx, key).Val(); d <= time.Hour || d > 2*time.Hour {
			t.Errorf("%s lives %s", key, d)
		}
	}
	s = open(t, redis.Config{Addresses: []string{addr}}).Traces(trace.Config{Retention: time.Nanosecond})
	if n, err := s.Put(ctx, nil); n != 0 || err != nil {
		t.Errorf("%d calls are kept, %v", n, err)
	}
	if keys := c.Keys(ctx, "*").Val(); len(keys) > 0 {
		t.Errorf("left are %q", keys)
	}
}

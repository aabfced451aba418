package redis_test

import (
	"context"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/redis"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// Instances that share a Redis share claims and messages.
func TestShared(t *testing.T) {
	c := redis.Config{Addresses: []string{storetest.StartRedis(t)}, Timeout: 20 * time.Second}
	storetest.RunShared(t, open(t, c), open(t, c), open(t, c))
}

// Every key has an end: a message's a day after its deadline, a claim's its own,
// those of the indexes when their last message ends.
func TestOutboxExpiry(t *testing.T) {
	addr := storetest.StartRedis(t)
	s := open(t, redis.Config{Addresses: []string{addr}, Prefix: "p:"})
	c := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ends := func(key string, want time.Time) {
		t.Helper()
		if got := c.PExpireTime(ctx, key).Val().Milliseconds(); got != want.UnixMilli() {
			t.Errorf("%s ends at %d, want %d", key, got, want.UnixMilli())
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	long, short := storetest.Message(1), storetest.Message(2)
	short.Deadline = long.Deadline.Add(-time.Minute)
	check(s.Put(ctx, long))
	check(s.Put(ctx, short))
	ends("p:o:{outbox}:"+long.ID, long.Deadline.Add(24*time.Hour))
	ends("p:o:{outbox}:"+short.ID, short.Deadline.Add(24*time.Hour))
	ends("p:o:{outbox}due", long.Deadline.Add(24*time.Hour))
	if _, err := s.Due(ctx, time.Now(), time.Minute, 9); err != nil {
		t.Fatal(err)
	}
	ends("p:o:{outbox}:"+long.ID, long.Deadline.Add(24*time.Hour))
	short.Targets = nil // done
	check(s.Update(ctx, short))
	ends("p:o:{outbox}:"+short.ID, short.Deadline.Add(24*time.Hour))
	ends("p:o:{outbox}done", short.Deadline.Add(24*time.Hour))

	if ok, err := s.Claim(ctx, "k", 90*time.Second+time.Microsecond); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if d := c.PTTL(ctx, "p:c:k").Val(); d > 90*time.Second+time.Millisecond || d < 60*time.Second {
		t.Errorf("the claim lives %s", d)
	}
	for _, key := range c.Keys(ctx, "*").Val() {
		if c.PTTL(ctx, key).Val() < 0 {
			t.Errorf("%s has no end", key)
		}
	}
}

// What is no binding, or cannot be read, stops neither a scan nor what is due.
func TestUnreadable(t *testing.T) {
	addr := storetest.StartRedis(t)
	s := open(t, redis.Config{Addresses: []string{addr}, Prefix: "*[p]"})
	c := client(t, addr)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	register(t, s, storetest.Registration("alice@example.com", 1))
	for key, value := range map[string]string{"*[p]b:{damaged}": "x", "*[p]b:{newer}": "\x00\x02=d\x00\x00\x00\x01\x09",
		"pb:{other}": "y", "xpb:{other}": "z"} {
		if err := c.Set(ctx, key, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SAdd(ctx, "*[p]b:{set}", "x").Err(); err != nil {
		t.Fatal(err)
	}
	seen := ""
	if err := s.Scan(ctx, func(list []wake.Binding) error {
		for _, b := range list {
			seen += b.AOR + " "
		}
		return nil
	}); err != nil || seen != "alice@example.com " {
		t.Errorf("scan saw %q, %v", seen, err)
	}
	for n := range 3 {
		if err := s.Put(ctx, storetest.Message(n)); err != nil {
			t.Fatal(err)
		}
	}
	const newer = "\x02 of a newer version, whatever that holds"
	for n, value := range []string{"\x01cut short", newer} {
		if err := c.Set(ctx, "*[p]o:{outbox}:"+storetest.Message(n).ID, value, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Due(ctx, time.Now(), time.Minute, 9)
	if err != nil || len(list) != 1 || list[0].ID != storetest.Message(2).ID {
		t.Errorf("due: %v, %v", list, err)
	}
	if got := c.Get(ctx, "*[p]o:{outbox}:"+storetest.Message(1).ID).Val(); got != newer {
		t.Errorf("the message of a newer version was changed: %q", got)
	}
}

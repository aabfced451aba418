package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// childOutbox puts messages, marks every second one as sent and claims its ID,
// and tells what was acknowledged, until it is killed.
func childOutbox(s *local.Store) {
	var mu sync.Mutex // a line is written whole
	var next atomic.Int64
	ctx := context.Background()
	for range 8 {
		go func() {
			for {
				n := int(next.Add(1))
				m, word := storetest.Message(n), "put"
				err := s.Put(ctx, m)
				if err == nil && n%2 == 0 {
					word = "sent"
					m.Targets[0].State, m.Targets[0].Reason = outbox.TargetSent, push.Accepted
					if err = s.Update(ctx, m); err == nil {
						_, err = s.Claim(ctx, m.ID, time.Hour)
					}
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Printf("%s %d\n", word, n)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// Messages and claims that were acknowledged survive the death of the process.
func TestOutboxCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	acknowledged := killed(t, "outbox", path, 200)
	ctx := context.Background()
	s := open(t, path, storetest.Options{})
	due := make(map[string]bool)
	for {
		list, err := s.Due(ctx, time.Now(), time.Hour, 50)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, m := range list {
			due[m.ID] = true
		}
	}
	for n, word := range acknowledged {
		id := storetest.Message(n).ID
		m, ok, err := s.Message(ctx, id)
		if err != nil || !ok || m.Done() != (word == "sent") || due[id] == m.Done() {
			t.Fatalf("%s was acknowledged as %s: found %t, done %t, due %t, %v", id, word, ok, m.Done(), due[id], err)
		}
		if got, err := s.Claim(ctx, id, time.Hour); err != nil || got != (word == "put") {
			t.Fatalf("%s was acknowledged as %s and can be claimed: %t, %v", id, word, got, err)
		}
	}
}

// After a restart a lease is still held, and the room is counted as before.
func TestOutboxReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	o := storetest.Options{Outbox: 3}
	s := open(t, path, o)
	ctx := context.Background()
	now := time.Now()
	for n := range 3 {
		if err := s.Put(ctx, storetest.Message(n)); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.Due(ctx, now.Add(time.Minute), time.Hour, 2); err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, storetest.Message(9)); !errors.Is(err, wake.ErrUnavailable) {
		t.Errorf("Put after Close: %v", err)
	}
	if _, err := s.Due(ctx, now, time.Hour, 2); !errors.Is(err, wake.ErrUnavailable) {
		t.Errorf("Due after Close: %v", err)
	}
	s = open(t, path, o)
	if err := s.Put(ctx, storetest.Message(9)); !errors.Is(err, outbox.ErrFull) {
		t.Errorf("Put into the full outbox: %v", err)
	}
	list, err := s.Due(ctx, now.Add(time.Minute), time.Hour, 9)
	if err != nil || len(list) != 1 || list[0].ID != storetest.Message(2).ID {
		t.Errorf("due after the restart: %v, %v", list, err)
	}
}

// A file that an older sipwake made has no outbox yet.
func TestOlderFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{})
	register(t, s, storetest.Registration("alice@example.com", 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	local.MakeOlder(t, path)
	s = open(t, path, storetest.Options{})
	if got := bindings(t, s, "alice@example.com"); len(got) != 1 {
		t.Errorf("%d bindings", len(got))
	}
	if err := s.Put(context.Background(), storetest.Message(1)); err != nil {
		t.Error(err)
	}
}

// What has ended does not stay in the file.
func TestOutboxIsCleaned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{})
	ctx := context.Background()
	for n := range 6 {
		m := storetest.Message(n)
		m.Deadline = time.Now().Add(-25 * time.Hour)
		if n%2 == 0 {
			m.Targets = nil // done
		}
		if err := s.Put(ctx, m); err != nil {
			t.Fatal(err)
		}
		if ok, err := s.Claim(ctx, m.ID, time.Microsecond); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	if list, err := s.Due(ctx, time.Now(), time.Hour, 9); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	if ok, err := s.Claim(ctx, "last", time.Hour); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if got := local.Keys(t, s); got != "messages 0 (0) due 0 done 0 claims 1 claimends 1" {
		t.Errorf("left in the file: %s", got)
	}
}

// A file that is made anew knows how many messages of each tenant wait.
func TestShareIsCountedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{Outbox: 4})
	put := func(n int) error {
		m := storetest.Message(n)
		m.Owner = "acme"
		return s.Put(t.Context(), m)
	}
	for n := range 2 {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte("waiting"), []byte("xaiting")), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, storetest.Options{Outbox: 4})
	if s.Notice() == "" {
		t.Fatal("the file was not made anew")
	}
	if err := put(2); !errors.Is(err, outbox.ErrShare) {
		t.Errorf("one more than the share: %v", err)
	}
	if err := s.Put(t.Context(), storetest.Message(3)); err != nil {
		t.Errorf("the operator's: %v", err)
	}
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/outbox"
	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

const outboxSmall = 5

// Message returns the n-th message, with two targets, to be tried at once.
func Message(n int) outbox.Message {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return outbox.Message{
		ID: fmt.Sprintf("message-%06d", n), AOR: aor, Kind: push.Custom, From: "sip:alice@example.com", Display: "Alice Zoë", Title: "Hello", Body: "Good morning, Zoë",
		Data:      map[string]string{"a": "1", "": "empty", "b": ""},
		CreatedAt: now, Deadline: now.Add(time.Hour), NextTry: now,
		Targets: []outbox.Target{
			{Device: "one", Address: Registration(aor, n).Address, State: outbox.TargetQueued},
			{Device: "two", Address: pnparam.Address{Provider: pnparam.FCM, App: "p", Tokens: []pnparam.Token{{Value: token64(n)}}},
				State: outbox.TargetFailed, Reason: push.TokenDead, Detail: "UNREGISTERED", Tries: 3},
		},
	}
}

func done(m outbox.Message) outbox.Message {
	m.Targets = []outbox.Target{{Device: "one", State: outbox.TargetSent, Reason: push.Accepted, Tries: 1}}
	return m
}

func (f fixture) put(s Store, list ...outbox.Message) {
	f.t.Helper()
	for _, m := range list {
		if err := s.Put(f.ctx(), m); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f fixture) update(s Store, m outbox.Message) {
	f.t.Helper()
	if err := s.Update(f.ctx(), m); err != nil {
		f.t.Fatal(err)
	}
}

// message checks the stored message; nil means that there is none.
func (f fixture) message(s Store, id string, want *outbox.Message) {
	f.t.Helper()
	got, ok, err := s.Message(f.ctx(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	if want == nil {
		want = &outbox.Message{}
	}
	f.equal(ok, want.ID != "")
	f.equal(got, *want)
}

func (f fixture) due(s Store, now time.Time, lease time.Duration, limit int) []outbox.Message {
	f.t.Helper()
	list, err := s.Due(f.ctx(), now, lease, limit)
	return must(f.t, list, err)
}

func testOutbox(t *testing.T, s Store) {
	f := fixture{t, s}
	m := Message(1)
	f.message(s, m.ID, nil)
	f.update(s, m)
	f.message(s, m.ID, nil)
	f.put(s, m)
	f.message(s, m.ID, &m)
	again := m
	again.Title = "again"
	f.put(s, again)
	f.message(s, m.ID, &m)
	m.Targets[0].Tries, m.Targets[0].Reason = 1, push.Unavailable
	m.NextTry = m.NextTry.Add(time.Minute)
	f.update(s, m)
	f.message(s, m.ID, &m)
	many := outbox.Message{ID: "many", Job: "j", Owner: "acme", Deadline: m.Deadline, NextTry: m.NextTry, Users: []string{"a@x", "b@x"},
		Many: &outbox.Many{Provider: pnparam.FCM, App: "p", Rate: 50, List: "l", Parts: 2, Part: 1, Next: 3, Users: 700, Sent: 503, None: 4,
			Scope: &wake.Scope{Domains: []string{"x"}, Apps: []string{"p", "q"}}, Stopped: true}}
	f.put(s, many)
	f.message(s, many.ID, &many)
	f.equal(len(f.due(s, m.NextTry, time.Minute, 9)), 2) // it is not done
	many.NextTry = m.NextTry.Add(time.Minute)
	f.message(s, many.ID, &many)
	plain := outbox.Message{ID: "{}%\x00", Deadline: m.Deadline}
	f.put(s, plain)
	f.message(s, plain.ID, &plain)
}

// Every message that has not ended is listed, done or not, whatever the page size.
func testMessages(t *testing.T, s Store) {
	f := fixture{t, s}
	all := func(limit int) map[string]outbox.Message {
		t.Helper()
		found := make(map[string]outbox.Message)
		for cursor, pages := "", 0; ; pages++ {
			list, next, err := s.Messages(f.ctx(), cursor, limit)
			if err != nil || pages > 1000 {
				t.Fatalf("page %d: %v", pages, err)
			}
			for _, m := range list {
				found[m.ID] = m
			}
			if cursor = next; cursor == "" {
				return found
			}
		}
	}
	f.equal(len(all(10)), 0)
	const n = 300
	want := make(map[string]outbox.Message)
	for i := range n {
		m := Message(i)
		if i%3 == 0 {
			m = done(m)
		}
		want[m.ID] = m
		f.put(s, m)
	}
	ended := Message(n)
	ended.Deadline = time.Now().Add(-25 * time.Hour)
	f.put(s, ended)
	f.equal(all(7), want)
	f.equal(all(1000), want)
	ctx, cancel := context.WithCancel(f.ctx())
	cancel()
	if _, _, err := s.Messages(ctx, "", 1); !errors.Is(err, wake.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

func ids(list []outbox.Message) string {
	var b strings.Builder
	for _, m := range list {
		b.WriteString(strings.TrimLeft(strings.TrimPrefix(m.ID, "message-"), "0") + " ")
	}
	return b.String()
}

func testDue(t *testing.T, s Store) {
	f := fixture{t, s}
	now := time.Now().UTC().Truncate(time.Microsecond)
	f.equal(f.due(s, now, time.Minute, 10), []outbox.Message{})
	at := func(n int, d time.Duration) outbox.Message {
		m := Message(n)
		m.NextTry = now.Add(d)
		return m
	}
	f.put(s, at(4, 0), at(2, -2*time.Second), at(1, -3*time.Second), at(3, -time.Microsecond),
		at(5, time.Microsecond), done(at(6, -time.Hour)))
	list := f.due(s, now, time.Minute, 3)
	f.equal(ids(list), "1 2 3 ")
	want := at(1, time.Minute)
	want.CreatedAt, want.Deadline = list[0].CreatedAt, list[0].Deadline
	f.equal(list[0], want)
	f.message(s, want.ID, &want)
	f.equal(ids(f.due(s, now, time.Minute, 3)), "4 ")
	f.equal(ids(f.due(s, now, time.Minute, 3)), "")
	f.equal(f.due(s, now.Add(time.Hour), time.Minute, 0), []outbox.Message{})

	// One is done, one must be tried before its lease ends, one after.
	f.update(s, done(at(1, 0)))
	f.update(s, at(2, time.Second))
	f.update(s, at(3, 2*time.Hour))
	f.equal(ids(f.due(s, now.Add(time.Second), 2*time.Hour, 9)), "5 2 ")
	f.equal(ids(f.due(s, now.Add(time.Minute), 2*time.Hour, 9)), "4 ") // its lease ran out
	f.equal(ids(f.due(s, now.Add(3*time.Hour), time.Minute, 9)), "3 2 5 4 ")
	f.update(s, at(1, 0)) // and back
	f.equal(ids(f.due(s, now, time.Minute, 9)), "1 ")
}

// A message is forgotten a day after its deadline, done or not.
func testOutboxEnd(t *testing.T, s Store) {
	f := fixture{t, s}
	short, shortDone, late := Message(1), done(Message(2)), Message(3)
	for _, m := range []*outbox.Message{&short, &shortDone} {
		m.Deadline = time.Now().UTC().Truncate(time.Millisecond).Add(-24*time.Hour + 200*time.Millisecond)
		m.NextTry = m.Deadline
	}
	late.Deadline = time.Now().UTC().Truncate(time.Microsecond).Add(-24*time.Hour + time.Minute)
	f.put(s, short, shortDone, late)
	for _, m := range []outbox.Message{short, shortDone} {
		for end := time.Now().Add(20 * time.Second); ; {
			_, ok, err := s.Message(f.ctx(), m.ID)
			if err != nil || time.Now().After(end) {
				t.Fatal("a message does not end", err)
			}
			if !ok {
				break
			}
		}
		f.update(s, m)
		f.message(s, m.ID, nil)
	}
	f.message(s, late.ID, &late)
	f.equal(ids(f.due(s, time.Now(), time.Minute, 1)), "3 ")
	f.put(s, Message(1)) // the ID may be used again
	f.equal(ids(f.due(s, time.Now(), time.Minute, 9)), "1 ")
}

func testOutboxUsage(t *testing.T, s Store) {
	f := fixture{t, s}
	nameless, endless, long := Message(1), Message(2), Message(3)
	nameless.ID, endless.Deadline, long.ID = "", time.Time{}, strings.Repeat("x", 300)
	for _, m := range []outbox.Message{nameless, endless, long} {
		if s.Put(f.ctx(), m) == nil || s.Update(f.ctx(), m) == nil {
			t.Errorf("message %.20q until %s was taken", m.ID, m.Deadline)
		}
	}
	f.message(s, "", nil)
	f.equal(f.due(s, time.Now(), time.Minute, 9), []outbox.Message{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err1 := s.Message(ctx, "x")
	_, err2 := s.Due(ctx, time.Now(), time.Minute, 9)
	for i, err := range []error{s.Put(ctx, Message(4)), s.Update(ctx, Message(4)), err1, err2} {
		if !errors.Is(err, wake.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled %d: %v", i, err)
		}
	}
}

// The store was opened with room for outboxSmall messages.
func testOutboxFull(t *testing.T, s Store) {
	f := fixture{t, s}
	var list []outbox.Message
	for n := range outboxSmall {
		list = append(list, Message(n))
	}
	f.put(s, list...)
	for range 2 {
		if err := s.Put(f.ctx(), Message(9)); !errors.Is(err, outbox.ErrFull) || errors.Is(err, wake.ErrUnavailable) {
			t.Fatalf("full: %v, want ErrOutboxFull", err)
		}
	}
	f.put(s, list[0]) // an existing message needs no room
	f.message(s, Message(9).ID, nil)

	// Messages that are done make room, in the order in which they end.
	a, b := done(list[3]), done(list[1])
	a.Deadline, b.Deadline = a.Deadline.Add(time.Second), b.Deadline.Add(2*time.Second)
	f.update(s, b)
	f.update(s, a)
	f.put(s, Message(9))
	f.message(s, a.ID, nil)
	f.message(s, b.ID, &b)
	f.put(s, done(Message(10)))
	f.message(s, b.ID, nil)
	f.put(s, Message(11))
	f.message(s, Message(10).ID, nil)
	if err := s.Put(f.ctx(), Message(12)); !errors.Is(err, outbox.ErrFull) {
		t.Fatalf("full again: %v, want ErrOutboxFull", err)
	}
	f.equal(len(f.due(s, time.Now(), time.Minute, 99)), outboxSmall)
}

// The store was opened with room for 12 messages. A tenant may not have more waiting
// messages than there is room left, so that others always have room too. Messages that
// are done do not count.
func testOutboxShare(t *testing.T, s Store) {
	f := fixture{t, s}
	n := 0
	of := func(owner string) outbox.Message {
		n++
		m := Message(n)
		m.Owner = owner
		return m
	}
	fill := func(owner string) (taken []outbox.Message) {
		t.Helper()
		for {
			m := of(owner)
			if err := s.Put(f.ctx(), m); errors.Is(err, outbox.ErrFull) {
				if got := errors.Is(err, outbox.ErrShare); got != (owner != "") {
					t.Errorf("%q: %v", owner, err)
				}
				return taken
			} else if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, m)
		}
	}
	for range 6 {
		f.put(s, done(of("acme")))
	}
	acme := fill("acme")
	f.equal(len(acme), 6) // it alone has half of the room
	globex := fill("globex")
	f.equal(len(globex), 3)
	f.equal(len(fill("acme")), 0)
	f.put(s, acme[0]) // an existing message needs no room

	// A message that is sent makes room for its owner too.
	for _, m := range acme[:3] {
		f.update(s, done(m))
		f.update(s, done(m))
	}
	f.equal(len(fill("acme")), 2) // 5 of it, 3 of globex, 4 left
	f.update(s, globex[0])        // it waits as before
	f.equal(len(fill("globex")), 1)
	f.equal(len(fill("")), 3) // the operator's go on until all is full
	f.equal(len(fill("initech")), 0)
}

// With many concurrent callers, and while messages are added, no caller gets a message
// that another one has.
func testDueRace(t *testing.T, instances ...Store) {
	const messages, workers = 300, 8
	now := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var mu sync.Mutex
	got := make(map[string]int)
	var done sync.WaitGroup
	for w := range workers {
		done.Go(func() {
			for ctx.Err() == nil {
				list, err := instances[w%len(instances)].Due(ctx, now.Add(time.Minute), time.Hour, 7)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, m := range list {
					got[m.ID]++
				}
				all := len(got) == messages
				mu.Unlock()
				if all {
					return
				}
			}
		})
	}
	parallel(t, 8, messages, func(i int) error { return instances[i%len(instances)].Put(ctx, Message(i)) })
	done.Wait()
	if len(got) != messages {
		t.Errorf("%d of %d messages were handed out", len(got), messages)
	}
	for id, n := range got {
		if n != 1 {
			t.Errorf("%s was handed out %d times", id, n)
		}
	}
	if list := (fixture{t, instances[0]}).due(instances[0], now.Add(time.Minute), time.Hour, 99); len(list) != 0 {
		t.Errorf("%d more", len(list))
	}
}

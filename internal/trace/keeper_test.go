package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// memory is a Store in memory that can be away.
type memory struct {
	mu    sync.Mutex
	parts map[string]Timeline
	away  bool
	hangs time.Duration
	puts  int
	reg   *prometheus.Registry
}

// metric returns a metric's value.
func (m *memory) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := m.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

var errAway = errors.New("away")

func (m *memory) Put(ctx context.Context, parts []Timeline) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-time.After(m.hangs):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	m.puts++
	if m.away {
		return 0, errAway
	}
	for _, p := range parts {
		p.Events = slices.Clone(p.Events)
		m.parts[p.ID+" "+p.Instance] = p
	}
	return len(m.parts), nil
}

func (m *memory) Find(_ context.Context, q Query) (found []Timeline, next Cursor, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, Cursor{}, errAway
	}
	all := Merge(slices.Collect(maps.Values(m.parts)))
	slices.Reverse(all)
	calls := 0
	for _, t := range all {
		if !q.Match(&t) {
			continue
		}
		if calls == q.Limit {
			return found, found[len(found)-1].Cursor(), nil
		}
		calls++
		for _, p := range m.parts {
			if p.ID == t.ID {
				found = append(found, p)
			}
		}
	}
	return found, Cursor{}, nil
}

func (m *memory) Users(_ context.Context, part string, most int) (found []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if HasPart(p.AOR, part) && !slices.Contains(found, p.AOR) && len(found) < most {
			found = append(found, p.AOR)
		}
	}
	return found, nil
}

func (m *memory) set(f func(m *memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

// keeping runs f with a Keeper for a Log that remembers size calls.
func keeping(t *testing.T, size int, f func(l *Log, k *Keeper, m *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m, l := &memory{parts: map[string]Timeline{}}, NewLog(size)
		reg := prometheus.NewRegistry()
		k := NewKeeper(l, m, "one", slog.New(slog.DiscardHandler), reg)
		m.reg = reg
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { k.Run(ctx) })
		f(l, k, m)
		cancel()
		running.Wait()
	})
}

// What happens is in the store within a second, also while more happens, and what is
// found is never less than what this instance knows.
func TestKeeperWrites(t *testing.T) {
	keeping(t, 10, func(l *Log, k *Keeper, m *memory) {
		l.Begin(head("a"))
		for i := range 20 {
			l.Add("a", Event{At: time.Now(), Name: Registered, Device: fmt.Sprint(i)})
			if got := k.Find(t.Context(), Query{CallID: "call-a", Limit: 5}, "").Timelines; len(got) != 1 || len(got[0].Events) != i+1 || got[0].Instance != "" {
				t.Fatalf("after %d events found %+v", i+1, got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		m.set(func(m *memory) {
			if got := m.parts["a one"]; len(got.Events) < 11 || m.puts > 5 {
				t.Errorf("%d events after %d writes", len(got.Events), m.puts)
			}
		})
		time.Sleep(time.Second)
		m.set(func(m *memory) {
			if got := m.parts["a one"]; len(got.Events) != 20 {
				t.Errorf("%d events", len(got.Events))
			}
			m.parts["a two"] = Timeline{Head: head("a"), Instance: "two", Reason: "answered"}
		})
		if got := k.Find(t.Context(), Query{Reason: "answered", Limit: 5}, "").Timelines; len(got) != 1 || len(got[0].Events) != 20 {
			t.Errorf("found %+v", got)
		}
	})
}

// What has not been written is when it stops.
func TestKeeperStops(t *testing.T) {
	var was *memory
	keeping(t, 1000, func(l *Log, _ *Keeper, m *memory) {
		for i := range 300 {
			l.Begin(head(fmt.Sprint(i)))
		}
		was = m
	})
	if len(was.parts) != 300 {
		t.Errorf("%d are written", len(was.parts))
	}
}

// A store that is away costs the oldest calls, and they are counted; nobody waits for
// it.
func TestKeeperDrops(t *testing.T) {
	keeping(t, 10, func(l *Log, k *Keeper, m *memory) {
		m.set(func(m *memory) { m.away = true })
		began := time.Now()
		for i := range 35 {
			l.Begin(head(fmt.Sprintf("%02d", i)))
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("took %s", d)
		}
		time.Sleep(3 * time.Second)
		if got := k.Find(t.Context(), Query{Limit: 100}, ""); !got.Incomplete || len(got.Timelines) != 10 || m.puts > 4 {
			t.Errorf("found %d, incomplete %v, after %d tries", len(got.Timelines), got.Incomplete, m.puts)
		}
		m.set(func(m *memory) { m.away = false })
		time.Sleep(3 * time.Second)
		if got := k.Find(t.Context(), Query{Limit: 100}, ""); got.Incomplete || len(got.Timelines) != 20 || got.Timelines[19].ID != "15" {
			t.Errorf("found %d", len(got.Timelines))
		}
		if n := m.metric(t, "sipwake_traces_dropped_total"); n != 15 {
			t.Errorf("%v were dropped", n)
		}
	})
}

// Adding to the Log does not wait for a store that hangs.
func TestKeeperHangs(t *testing.T) {
	keeping(t, 10, func(l *Log, _ *Keeper, m *memory) {
		m.set(func(m *memory) { m.hangs = time.Hour })
		for range 50 {
			began := time.Now()
			l.Begin(head("a"))
			l.Add("a", Event{Name: Held})
			if d := time.Since(began); d > 0 {
				t.Fatalf("took %s", d)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// Pages of what is written and what is not, of one user and of all that have a part
// of the name.
func TestKeeperPages(t *testing.T) {
	keeping(t, 7, func(l *Log, k *Keeper, m *memory) {
		var want []string
		for i := range 20 {
			h := Head{ID: fmt.Sprintf("%02d", i), AOR: []string{"lin@example.com", "linda@example.com"}[i%2], StartedAt: time.Now()}
			l.Begin(h)
			want = append(want, h.ID)
			time.Sleep(100 * time.Millisecond)
		}
		slices.Reverse(want)
		for limit := 1; limit < 22; limit++ {
			for _, part := range []string{"", "LIN"} {
				var got []string
				for q := (Query{Limit: limit}); ; {
					f := k.Find(t.Context(), q, part)
					for _, c := range f.Timelines {
						got = append(got, c.ID)
					}
					if q.Before = f.Next; q.Before.IsZero() {
						break
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%q by %d: %v, want %v", part, limit, got, want)
				}
			}
		}
		m.set(func(m *memory) { m.hangs = 0 })
	})
}

// A user without calls has a name that is like another one's.
func TestKeeperLike(t *testing.T) {
	keeping(t, 7, func(l *Log, k *Keeper, _ *memory) {
		for i, aor := range []string{"lin@example.com", "+493012345@example.com"} {
			l.Begin(Head{ID: fmt.Sprint(i), AOR: aor, StartedAt: time.Now()})
		}
		for name, want := range map[string]string{"lin@example.org": "lin@example.com", "linn@example.com": "lin@example.com",
			"3012345@example.com": "+493012345@example.com", "0049@example.com": "+493012345@example.com", "carol@example.com": ""} {
			if got := strings.Join(k.Find(t.Context(), Query{AOR: name, Limit: 1}, "").Like, " "); got != want {
				t.Errorf("%s is like %q, want %q", name, got, want)
			}
		}
		if got := k.Find(t.Context(), Query{Limit: 1}, "linux"); strings.Join(got.Like, " ") != "lin@example.com" {
			t.Errorf("found %+v", got)
		}
		if got := k.Find(t.Context(), Query{Limit: 1}, "12345"); len(got.Timelines) != 1 || strings.Join(got.Users, " ") != "+493012345@example.com" {
			t.Errorf("found %+v", got)
		}
	})
}

func TestCursor(t *testing.T) {
	for _, c := range []Cursor{{}, {time.UnixMicro(1), "a.b"}, {time.UnixMicro(1_795_000_000_123_456), "0f2a"}} {
		got, err := ParseCursor(c.String())
		if err != nil || got.compare(c) != 0 {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	for _, bad := range []string{"x", ".", "1.", "-1.a", "%.a", "1." + strings.Repeat("a", 400)} {
		if c, err := ParseCursor(bad); err == nil {
			t.Errorf("%q: %v", bad, c)
		}
	}
}

// Lists that are complete down to different places are one down to the higher one.
func TestPage(t *testing.T) {
	calls := func(of ...int) (list []Timeline) {
		for _, n := range of {
			list = append(list, Timeline{Head: Head{ID: fmt.Sprint(n), StartedAt: start.Add(time.Duration(n) * time.Second)}})
		}
		return list
	}
	for _, limit := range []int{2, 4, 9} {
		for _, swap := range []bool{false, true} {
			one, two := calls(9, 8, 5), calls(7, 3)
			if swap {
				one, two = two, one
			}
			p := page{limit: limit}
			p.add(one, one[len(one)-1].Cursor())
			p.add(two, two[len(two)-1].Cursor())
			f := p.found()
			want := "9875"[:min(limit, 4)]
			if got := ids(f.Timelines); got != want || f.Next != f.Timelines[len(want)-1].Cursor() {
				t.Errorf("by %d: %s, want %s, next %v", limit, got, want, f.Next)
			}
		}
	}
}

package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// A wake is kept for as long as a call may ring past its deadline, and not for ever.
func TestKeep(t *testing.T) {
	const rings = wake.MaxRing + store.WakeMargin
	for hold, want := range map[time.Duration]time.Duration{
		-time.Second: rings, 0: rings, 40 * time.Second: 40*time.Second + rings, 1000 * time.Hour: store.MaxKeep,
	} {
		w := newWake()
		w.Deadline = w.StartedAt.Add(hold)
		if got := store.Keep(&w); got != want {
			t.Errorf("a hold of %s is kept %s, want %s", hold, got, want)
		}
	}
}

// Forked can be noted in a value later, as Pushed can.
func TestForked(t *testing.T) {
	w := newWake()
	plain, err := store.AppendWake(nil, &w)
	if err != nil {
		t.Fatal(err)
	}
	w.Pushed, w.Forked = []string{"a", "b"}, true
	whole, err := store.AppendWake(nil, &w)
	if err != nil {
		t.Fatal(err)
	}
	noted := store.AppendPushed(store.AppendForked(store.AppendPushed(plain, "a")), "b")
	for _, v := range [][]byte{whole, noted} {
		got, err := store.DecodeWake(w.AOR, v)
		if d := cmp.Diff(w, got); d != "" || err != nil {
			t.Errorf("%v, want - got +\n%s", err, d)
		}
	}
}

// What its pushes may say of a call goes with its wake too.
func TestCallData(t *testing.T) {
	w := newWake()
	w.To, w.Verstat = "sip:+4420@example.com", "TN-Validation-Passed"
	w.Urgent = true
	w.Headers = map[string]string{"x-account": "4711", "call-info": "<https://example.com/a.png>;purpose=icon"}
	v, err := store.AppendWake(nil, &w)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.DecodeWake(w.AOR, v)
	if d := cmp.Diff(w, got); d != "" || err != nil {
		t.Errorf("%v, want - got +\n%s", err, d)
	}
}

// The trace of the call goes with its wake, to whoever adopts it.
func TestTraceParent(t *testing.T) {
	w := newWake()
	w.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	v, err := store.AppendWake(nil, &w)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.DecodeWake(w.AOR, v)
	if d := cmp.Diff(w, got); d != "" || err != nil {
		t.Errorf("%v, want - got +\n%s", err, d)
	}
}

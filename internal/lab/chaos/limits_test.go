package chaos

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A kernel that finds nothing to reclaim is asked again, and in the end the fault is
// not made.
func TestMemoryIsBusy(t *testing.T) {
	f := func(refusals int, made bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			m := memory{limit: "memory.max", write: func(string, []byte, os.FileMode) error {
				if refusals--; refusals >= 0 {
					return &os.PathError{Op: "write", Path: "memory.max", Err: syscall.EBUSY}
				}
				return nil
			}}
			if err := m.press(t.Context(), "1"); (err == nil) != made || err != nil && !errors.Is(err, errNotMade) {
				t.Errorf("%d refusals: %v", refusals, err)
			}
		})
	}
	f(0, true)
	f(5, true)
	f(1000, false)
	m := memory{write: func(string, []byte, os.FileMode) error { return os.ErrPermission }}
	if err := m.press(t.Context(), "1"); err == nil || errors.Is(err, errNotMade) {
		t.Errorf("another error: %v", err)
	}
}

// A fault that is not made is told and does not end the run; nor does it count.
func TestFaultNotMade(t *testing.T) {
	var out bytes.Buffer
	ctx, end := context.WithCancel(t.Context())
	w := &world{config: Config{Out: &out, Duration: time.Hour}, ledger: newLedger()}
	w.verdicts = &verdicts{w: w}
	turns := 0
	refused := fault{name: "some-fault", part: onSipwake, run: func(context.Context, *world, *rand.Rand) (string, error) {
		if turns++; turns == 3 {
			end()
		}
		return "", errNotMade
	}}
	n, err := w.breakThings(ctx, []fault{refused}, newWriter(w, 1, 1))
	if n != 0 || err != nil || turns != 3 || strings.Count(out.String(), "some-fault") != 3 {
		t.Errorf("%d faults in %d turns, %v:\n%s", n, turns, err, out.String())
	}
	other := fault{run: func(context.Context, *world, *rand.Rand) (string, error) { return "another part", nil }}
	for _, f := range []fault{both(refused, other), both(other, refused)} {
		if what, err := f.run(t.Context(), w, rand.New(rand.NewPCG(1, 1))); err != nil || !strings.Contains(what, errNotMade.Error()) {
			t.Errorf("one of two: %q, %v", what, err)
		}
	}
}

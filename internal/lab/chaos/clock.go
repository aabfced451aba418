package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// clocked is the sipwake whose clock can be stepped. The others run the original program.
const clocked = 1

const stepName = "sipwake-clock"

func (w *world) clockedProgram() string { return filepath.Join(w.dir, "sipwake-clock") }

// startClock builds the program with the stepped clock, if its fault is wanted. The first
// time this takes a minute, because everything that uses package time is compiled.
func (w *world) startClock(ctx context.Context) {
	if len(w.config.Faults) > 0 && !slices.Contains(w.config.Faults, stepName) {
		return
	}
	w.say("building a sipwake whose clock can be stepped")
	err := stack.BuildStepped(ctx, w.dir, w.clockedProgram())
	if err == nil {
		w.clock, err = stack.NewClock(filepath.Join(w.dir, "clock"))
	}
	if err != nil {
		w.noClock = err.Error()
	}
}

func needsClock(w *world) string { return w.noClock }

// stepClock sets the clock of a sipwake wrong and right again, during calls. That excuses
// nothing: sipwake must measure durations with the monotonic clock, and use Redis' time
// for what other instances read.
func stepClock(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s, d := w.sipwakes[clocked], lasts(r)+2*time.Second
	by := time.Duration(2+r.IntN(50)) * time.Second
	if r.IntN(2) == 0 {
		by = -by
	}
	w.ledger.inWake(ctx, s.id)
	if err := w.clock.Step(by); err != nil {
		return "", err
	}
	sleep(ctx, d)
	w.ledger.inWake(ctx, s.id)
	return fmt.Sprintf("%s by %s", s.name, by), w.clock.Step(0)
}

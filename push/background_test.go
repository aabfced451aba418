package push

import (
	"fmt"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// No hour has more than it may, wherever it begins; devices do not touch each other,
// and those beyond the bound are not held back.
func TestBackground(t *testing.T) {
	var b background
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one, two := secret.NewToken("one"), secret.NewToken("two")
	var sent []time.Time
	for minute := range 300 {
		now := start.Add(time.Duration(minute) * time.Minute)
		if b.take(one, 3, now) {
			sent = append(sent, now)
		}
	}
	for i := 3; i < len(sent); i++ {
		if sent[i].Sub(sent[i-3]) < time.Hour {
			t.Errorf("more than 3 from %s to %s", sent[i-3], sent[i])
		}
	}
	if len(sent) != 15 {
		t.Errorf("%d in 5 hours", len(sent))
	}
	now := start.Add(5 * time.Hour)
	if !b.take(two, 1, now) || b.take(two, 1, now) || !b.take(two, 0, now) {
		t.Error("another device")
	}
	for i := range maxBackground {
		b.take(secret.NewToken(fmt.Sprint(i)), 3, now)
	}
	late := secret.NewToken("late")
	for range 5 {
		if !b.take(late, 1, now) {
			t.Error("a device beyond the bound is held back")
		}
	}
	if len(b.sent) != maxBackground {
		t.Errorf("%d devices are counted", len(b.sent))
	}
	now = now.Add(2 * time.Hour)
	if !b.take(late, 1, now) || b.take(late, 1, now) || len(b.sent) != 1 {
		t.Errorf("after an hour: %d devices", len(b.sent))
	}
}

package push

import (
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

// backgroundHour is the time over which iOS counts an app's background pushes.
const backgroundHour = time.Hour

// maxBackground bounds the devices that are counted, at about 100 bytes each. Those
// beyond are not held back.
const maxBackground = 100_000

// background counts the background pushes of iOS devices, in memory, so that no more
// are sent than iOS delivers: it holds back or drops what is more, and with it what the
// app would need. Safe for concurrent use; the zero value is ready.
type background struct {
	mu    sync.Mutex
	sent  map[secret.Token][]time.Time // of the last hour, the oldest first
	sweep time.Time                    // when looking for devices to forget may pay again
}

// take counts a push to the token and reports whether it may go, as one of at most so
// many in an hour. Zero is no limit.
func (b *background) take(token secret.Token, most int, now time.Time) bool {
	if most <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	sent, known := b.sent[token]
	if !known && !b.room(now) {
		return true
	}
	for len(sent) > 0 && now.Sub(sent[0]) >= backgroundHour {
		sent = sent[1:]
	}
	ok := len(sent) < most
	if ok {
		sent = append(append(make([]time.Time, 0, len(sent)+1), sent...), now)
	}
	b.sent[token] = sent
	return ok
}

// room makes room for one more device if it can.
func (b *background) room(now time.Time) bool {
	if b.sent == nil {
		b.sent = make(map[secret.Token][]time.Time)
	}
	if len(b.sent) < maxBackground {
		return true
	}
	if now.Before(b.sweep) {
		return false
	}
	b.sweep = now.Add(time.Minute)
	for token, sent := range b.sent {
		if now.Sub(sent[len(sent)-1]) >= backgroundHour {
			delete(b.sent, token)
		}
	}
	return len(b.sent) < maxBackground
}

// overBackground reports whether the push is one more background push than the device's
// system delivers in an hour.
func (q *queue) overBackground(j *job) bool {
	return j.r.Provider == pnparam.APNs && j.n.PushType == TypeBackground &&
		!q.background.take(j.r.Token, q.BackgroundPerHour, time.Now())
}

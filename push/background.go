package push

import (
	"sync"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
)

// backgroundHour is the period in which iOS counts an app's background pushes.
const backgroundHour = time.Hour

// maxBackground limits the devices that are counted, at about 100 bytes each. Devices
// beyond it are not limited.
const maxBackground = 100_000

// background counts the background pushes to iOS devices, in memory, so that no more
// are sent than iOS delivers. iOS delays or drops any excess, and with it pushes that
// the app needs. Safe for concurrent use; the zero value is ready to use.
type background struct {
	mu    sync.Mutex
	sent  map[secret.Token][]time.Time // in the last hour, oldest first
	sweep time.Time                    // when another search for devices to forget may be worthwhile
}

// take counts a push to the token and reports whether it may be sent, with at most
// most pushes per hour. Zero means no limit.
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

// room makes room for one more device, if possible, and reports whether there is
// room.
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

// overBackground reports whether this background push is one more than the device's
// OS delivers in an hour.
func (q *queue) overBackground(j *job) bool {
	return j.r.Provider == pnparam.APNs && j.n.PushType == TypeBackground &&
		!q.background.take(j.r.Token, q.BackgroundPerHour, time.Now())
}

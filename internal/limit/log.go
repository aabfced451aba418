package limit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Log writes lines that strangers or an outage can cause without end. It writes the
// first line of each message at once. While there are more it writes one a second, for
// the last event, with the number of lines dropped before it. Messages are constants,
// so their number is bounded. Safe for concurrent use.
type Log struct {
	log *slog.Logger

	mu      sync.Mutex
	repeats map[string]*repeat
	closed  bool
}

// repeat is a message that was written less than a second ago.
type repeat struct {
	level slog.Level
	args  []any // of the last line
	n     int   // lines since the one that was written
	timer *time.Timer
}

// logEvery is how often a message is written.
const logEvery = time.Second

// NewLog returns a Log that writes to log.
func NewLog(log *slog.Logger) *Log {
	return &Log{log: log, repeats: make(map[string]*repeat)}
}

// Warn logs a line at level WARN.
func (l *Log) Warn(msg string, args ...any) { l.write(slog.LevelWarn, msg, args) }

// Info logs a line at level INFO.
func (l *Log) Info(msg string, args ...any) { l.write(slog.LevelInfo, msg, args) }

// Error logs a line at level ERROR.
func (l *Log) Error(msg string, args ...any) { l.write(slog.LevelError, msg, args) }

func (l *Log) write(level slog.Level, msg string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.repeats[msg]; r != nil {
		r.level, r.args = level, args
		r.n++
		return
	}
	l.put(level, msg, args)
	if !l.closed {
		l.repeats[msg] = &repeat{timer: time.AfterFunc(logEvery, func() { l.flush(msg) })}
	}
}

// put writes a line.
func (l *Log) put(level slog.Level, msg string, args []any) {
	l.log.Log(context.Background(), level, msg, args...) //nolint:sloglint // the callers' messages are constants
}

// flush writes the line for the last second, if there is one.
func (l *Log) flush(msg string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.repeats[msg]
	switch {
	case r == nil: // closed in the meantime
	case r.n == 0:
		delete(l.repeats, msg)
	default:
		l.putRepeat(msg, r)
		r.n = 0
		r.timer.Reset(logEvery)
	}
}

func (l *Log) putRepeat(msg string, r *repeat) {
	args := r.args
	if r.n > 1 {
		args = append(args[:len(args):len(args)], "dropped", r.n-1)
	}
	l.put(r.level, msg, args)
}

// Close writes what is due. Later lines are written without throttling.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for msg, r := range l.repeats {
		r.timer.Stop()
		if r.n > 0 {
			l.putRepeat(msg, r)
		}
		delete(l.repeats, msg)
	}
}

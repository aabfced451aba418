package push

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSkew(t *testing.T) {
	var log bytes.Buffer
	s := NewSkew(slog.New(slog.NewTextHandler(&log, nil)), "org.example.phone", "https://push.example.com/token?key=k")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := func(date string, by time.Duration, other bool) {
		t.Helper()
		if got := s.Learn(date, now); got != other {
			t.Errorf("Date %q: another time is %v", date, got)
		}
		if got := s.At(now).Sub(now); got != by {
			t.Errorf("Date %q: by %v, not %v", date, got, by)
		}
	}
	at := func(by time.Duration) string { return now.Add(by).Format(http.TimeFormat) }
	f("", 0, false)
	f("soon", 0, false)
	f(at(0), 0, false)
	f(at(-4*time.Second), 0, false)
	f(at(4*time.Second), 0, false)
	f(at(-41*time.Second), -41*time.Second, true)
	f(at(-41*time.Second), -41*time.Second, false)
	f(at(-44*time.Second), -41*time.Second, false)
	f("", -41*time.Second, false)
	f(at(2*time.Hour), 2*time.Hour, true)
	f(at(0), 0, true) // the clock was set right
	lines := func(want int, told string) {
		t.Helper()
		if got := strings.Count(log.String(), "set this machine's clock by NTP"); got != want || !strings.HasSuffix(log.String(), told+"\n") {
			t.Errorf("%d lines, want %d:\n%s", got, want, log.String())
		}
	}
	lines(1, "app=org.example.phone host=push.example.com service_ahead_by=-41s dropped=0")
	now = now.Add(10 * time.Minute)
	f(at(time.Minute), time.Minute, true)
	lines(2, "service_ahead_by=1m0s dropped=2")
}

// The many services of one app share a line, too.
func TestClocks(t *testing.T) {
	var log bytes.Buffer
	c := NewClocks(slog.New(slog.NewTextHandler(&log, nil)), "webpush")
	now := time.Now()
	for i := range 100 {
		c.Skew("push.example.net").Learn(now.Add(time.Duration(i+1)*time.Minute).Format(http.TimeFormat), now)
	}
	if got := strings.Count(log.String(), "host=push.example.net"); got != 1 {
		t.Errorf("%d lines:\n%s", got, log.String())
	}
}

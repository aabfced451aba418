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
	s := NewSkew(slog.New(slog.NewTextHandler(&log, nil)), "org.example.phone")
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
	if got := strings.Count(log.String(), "app=org.example.phone"); got != 3 {
		t.Errorf("%d lines:\n%s", got, log.String())
	}
}

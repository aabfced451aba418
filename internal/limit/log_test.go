package limit

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A message that comes without end is a line a second, and every line is counted.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := NewLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})))
		for i := range 25 { // 2.75 seconds
			l.Warn("refused", "n", i)
			if i == 3 {
				l.Error("another", "n", 0)
			}
			time.Sleep(110 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		l.Warn("refused", "n", "alone")
		l.Warn("refused", "n", "last")
		l.Close()
		l.Close()
		l.Warn("refused", "n", "after")
		want := `level=WARN msg=refused n=0
level=ERROR msg=another n=0
level=WARN msg=refused n=9 dropped=8
level=WARN msg=refused n=18 dropped=8
level=WARN msg=refused n=24 dropped=5
level=WARN msg=refused n=alone
level=WARN msg=refused n=last
level=WARN msg=refused n=after
`
		if got := out.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

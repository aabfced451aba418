package tests

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/lab/leak"
)

// said is all that a rig's sipwake says, kept for sipwake-lab leaks: its log, its
// answers, and in the end its metrics and traces.
type said struct {
	io.WriteCloser

	mu   sync.Mutex
	aors map[string]bool
}

func newSaid(t *testing.T) *said {
	s := &said{WriteCloser: leak.Record("rig"), aors: map[string]bool{}}
	t.Cleanup(func() { s.Close() })
	return s
}

var calledAOR = regexp.MustCompile(`"aor":"([^"\\]+)".*"method":"wake.start"|"method":"wake.start".*"aor":"([^"\\]+)"`)

// answer keeps an answer, unless it is meant to show push tokens.
func (s *said) answer(request string, answer []byte) {
	if strings.Contains(request, "binding.export") {
		return
	}
	if m := calledAOR.FindStringSubmatch(request); m != nil {
		s.mu.Lock()
		s.aors[m[1]+m[2]] = true
		s.mu.Unlock()
	}
	_, _ = s.Write(append(bytes.Clone(answer), '\n'))
}

// last keeps the metrics and the traces of a sipwake that is about to stop, or has:
// then there is nothing to be had.
func (s *said) last(a *app.App, auth string) {
	c := http.Client{Timeout: 10 * time.Second}
	keep := func(req *http.Request, err error) {
		if err != nil {
			return
		}
		if auth != "" {
			req.Header.Set("Authorization", "Bearer "+auth)
		}
		if res, err := c.Do(req); err == nil {
			_, _ = io.Copy(s, res.Body)
			res.Body.Close()
		}
	}
	keep(http.NewRequest(http.MethodGet, "http://"+a.OperationsAddr()+"/metrics", nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	for aor := range s.aors {
		keep(http.NewRequest(http.MethodPost, "http://"+a.RPCAddr()+"/rpc",
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"wake.trace","params":{"aor":"`+aor+`"}}`)))
	}
	c.CloseIdleConnections()
}

package relay

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// A maker that answers "pending" at once is not asked without a pause, and one that
// waits before it says so is asked again at once.
func TestPendingPause(t *testing.T) {
	const pending = `{"result":{"state":"pending"}}`
	for _, c := range []struct {
		waits time.Duration
		asked int // within 10 s
	}{{0, 40}, {time.Second, 10}} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int32
			p := &Provider{url: "http://maker.example/rpc", answers: push.NewAnswers(Answers()), poster: &push.Poster{Transport: push.NewTransport(nil, 1)}}
			p.poster.Transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					for in := bufio.NewReader(theirs); ; asked.Add(1) {
						req, err := http.ReadRequest(in)
						if err != nil {
							return
						}
						_, _ = io.Copy(io.Discard, req.Body)
						time.Sleep(c.waits)
						_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(pending))+"\r\n\r\n"+pending)
						if asked.Load() > 1000 {
							t.Error("it is asked without a pause")
							return
						}
					}
				}()
				return ours, nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second-time.Millisecond)
			defer cancel()
			n := &push.Notification{Kind: push.Call, Token: secret.NewToken("0a1b"), Payload: []byte("{}"), Deadline: time.Now().Add(time.Minute)}
			if r := p.Push(ctx, n); r.Reason != push.Timeout {
				t.Errorf("%+v", r)
			}
			p.Close()
			time.Sleep(time.Minute) // all that was asked is answered
			if asked := int(asked.Load()); asked != c.asked {
				t.Errorf("asked %d times in 10 s, want %d", asked, c.asked)
			}
		})
	}
}

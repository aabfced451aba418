package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// counted is a proxy that says how many connections were opened, and closed.
func counted(t *testing.T, h http.HandlerFunc) (s *httptest.Server, opened *atomic.Int32, closed chan net.Conn) {
	t.Helper()
	opened, closed = new(atomic.Int32), make(chan net.Conn, 99)
	s = httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed <- c
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, opened, closed
}

func answered(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"result":{}}`) }

// A proxy that has closed its connections, as after a restart, is signalled at once.
func TestProxyClosesIdleConnections(t *testing.T) {
	block := make(chan struct{})
	var waiting atomic.Int32
	s, opened, closed := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if waiting.Add(1) == 3 {
			close(block)
		}
		<-block
		answered(w, r)
	})
	c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("x")})
	errs := make(chan error)
	for range 3 {
		go func() { errs <- c.Call(t.Context(), "m", nil, nil) }()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	s.CloseClientConnections()
	for range 3 {
		<-closed
	}
	if err := c.Call(t.Context(), "m", nil, nil); err != nil {
		t.Error(err)
	}
	if n := opened.Load(); n != 4 {
		t.Errorf("%d connections were opened", n)
	}
}

// A new connection that is closed without an answer is no reason to try without end.
func TestProxyClosesEveryConnection(t *testing.T) {
	s, opened, _ := counted(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("x")})
	if err := c.Call(t.Context(), "m", nil, nil); !errors.As(err, new(*NoAnswerError)) {
		t.Errorf("got %v", err)
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections were opened", n)
	}
}

// What is not answered is given up when the context ends, and its connection with it:
// an answer that comes late is not taken for the next one's.
func TestLateAnswer(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s, opened, closed := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == `{"jsonrpc":"2.0","id":1,"method":"slow","params":null}` {
			close(arrived)
			<-release
		}
		answered(w, r)
	})
	c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("x")})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if err := c.Call(ctx, "slow", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	<-closed
	if err := c.Call(t.Context(), "m", nil, nil); err != nil || opened.Load() != 2 {
		t.Errorf("%v, %d connections", err, opened.Load())
	}
}

// No more connections than are configured are open; who waits for one gives up in time.
func TestConnectionsAreBounded(t *testing.T) {
	arrived, release := make(chan struct{}, 9), make(chan struct{})
	s, opened, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		answered(w, r)
	})
	c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("x"), Connections: 2})
	errs := make(chan error)
	for range 3 {
		go func() { errs <- c.Call(t.Context(), "m", nil, nil) }()
	}
	<-arrived
	<-arrived
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, "m", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	close(release)
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := opened.Load(); n != 2 {
		t.Errorf("%d connections were opened", n)
	}
}

// Answers that come before the answer, and those that end the connection.
func TestAnswers(t *testing.T) {
	f := func(status string, reused bool) {
		t.Helper()
		s, opened, _ := counted(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for {
				_, _ = rw.WriteString(status + "Content-Length: 13\r\n\r\n" + `{"result":{}}`)
				_ = rw.Flush()
				r, err := http.ReadRequest(rw.Reader)
				if err != nil {
					return
				}
				_, _ = io.ReadAll(r.Body)
			}
		})
		c := newClient(t, Config{URL: s.URL, Secret: secret.NewText("x")})
		for range 2 {
			if err := c.Call(t.Context(), "m", nil, nil); err != nil {
				t.Errorf("%q: %v", status, err)
			}
		}
		if n := opened.Load(); n == 1 != reused {
			t.Errorf("%q: %d connections", status, n)
		}
	}
	f("HTTP/1.1 200 OK\r\n", true)
	f("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n", true)
	f("HTTP/1.1 200 OK\r\nConnection: close\r\n", false)
	f("HTTP/1.0 200 OK\r\n", false)
}

// A connection that is not used is closed before the proxy does it.
func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{idle: time.Minute}
		free := func() int {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.free)
		}
		ours := make([]*conn, 2)
		for i := range ours {
			near, far := net.Pipe()
			defer far.Close()
			ours[i] = &conn{Conn: near}
			l.release(ours[i])
			time.Sleep(40 * time.Second)
		}
		if n := free(); n != 1 || l.take() != ours[1] {
			t.Errorf("%d are left after 80 s", n)
		}
		l.release(ours[1])
		time.Sleep(50 * time.Second)
		if free() != 1 {
			t.Error("it was closed although it had been used")
		}
		time.Sleep(time.Minute)
		if free() != 0 {
			t.Error("it is kept")
		}
		if _, err := ours[1].Write([]byte("x")); err == nil {
			t.Error("it is open")
		}
	})
}

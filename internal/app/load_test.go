package app

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// O2: whoever asks hears how busy this instance is, and nothing else; what asks too
// often is told so, and one client cannot take all connections.
func TestLoadListener(t *testing.T) {
	a, _ := prepared(t, `load: {listen: "127.0.0.1:0", connections: 16, rate_limit: 20}`)
	busy := atomic.Bool{}
	a.service.AddLoad("test", func() float64 {
		if busy.Load() {
			return 1
		}
		return 0
	})
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string) (status int, body string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+a.LoadAddr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for _, path := range []string{"/", "/rpc", "/metrics", "/?apientry=load"} {
		if status, body := ask(http.MethodGet, path); status != 200 || body != "OK 0\n" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := ask(http.MethodHead, "/"); status != 200 || body != "" {
		t.Errorf("HEAD: %d %s", status, body)
	}
	if status, _ := ask(http.MethodPost, "/"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
	busy.Store(true)
	if status, body := ask(http.MethodGet, "/"); status != 200 || body != "OK 4\n" {
		t.Errorf("busy: %d %s", status, body)
	}
	a.operations.ready.Store(false)
	if status, body := ask(http.MethodGet, "/"); status != 503 || body != "ERROR: not available\n" {
		t.Errorf("not ready: %d %s", status, body)
	}
	a.operations.ready.Store(true)
	limited := false
	for range 100 {
		status, _ := ask(http.MethodGet, "/")
		limited = limited || status == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("no limit to the rate")
	}

	var first net.Conn
	for i := range 3 { // an eighth of 16 may be of one client
		c, err := net.Dial("tcp", a.LoadAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i == 0 {
			first = c
		}
	}
	if err := first.SetReadDeadline(time.Now().Add(4 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the connection that waits longest: %v", err)
	}
}

func isTimeout(err error) bool {
	ne := net.Error(nil)
	return errors.As(err, &ne) && ne.Timeout()
}

// A store that is away is an error, and it is off unless it is asked for.
func TestLoadListenerStoreAway(t *testing.T) {
	off, _ := started(t)
	if off.LoadAddr() != "" {
		t.Error("it is on without being asked for")
	}
	a, _ := started(t, `load: {listen: "127.0.0.1:0", rate_limit: 0}`)
	if err := a.store.Close(); err != nil {
		t.Fatal(err)
	}
	res, err := http.Get("http://" + a.LoadAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Error(fmt.Sprint("store closed: ", res.Status))
	}
}

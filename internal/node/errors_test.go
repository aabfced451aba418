package node

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// raw answers every request with bytes and closes the connection.
func raw(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = conn.Write([]byte(answer))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// Errors are logged, and service.info shows them: they name neither the address nor
// the secret, and are short whatever was answered.
func TestErrorsAreDiscreet(t *testing.T) {
	const password = "s3cret-of-the-node"
	strange := httptest.NewUnstartedServer(http.NotFoundHandler())
	strange.Config.ErrorLog = log.New(io.Discard, "", 0)
	strange.StartTLS()
	defer strange.Close()
	f := func(address, want string, answered bool) {
		t.Helper()
		c := newClient(t, Config{URL: address, Secret: secret.NewText(password), Timeout: 10 * time.Second})
		err := c.Call(t.Context(), "m", nil, nil)
		if err == nil {
			t.Fatalf("%s: no error", want)
		}
		u, _ := url.Parse(address)
		text := err.Error()
		if !strings.Contains(text, want) || len(text) > 200 {
			t.Errorf("got %d bytes: %.300s\nwant %s", len(text), text, want)
		}
		for _, bad := range []string{password, u.Hostname(), ":" + u.Port()} {
			if strings.Contains(text, bad) {
				t.Errorf("%q is in %.300s", bad, text)
			}
		}
		if errors.As(err, new(*NoAnswerError)) == answered || errors.Is(err, ErrOther) != answered {
			t.Errorf("%T: %.300s", err, text)
		}
	}
	f("http://127.0.0.1:1", "it cannot be connected to: connection refused", false)
	f("http://no-such-host.invalid:80", "its host cannot be looked up: ", false)
	f(strange.URL, "its certificate cannot be trusted: ", false)
	f("http://"+raw(t, ""), "it closed the connection without an answer", false)
	f("http://"+raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), "it closed the connection", false)
	f("http://"+raw(t, "SIP/2.0 400 Bad Request\r\n\r\n"), `malformed HTTP version "SIP/2.0"`, true)
	f("http://"+raw(t, "HTTP/1.1 "+strings.Repeat("x", 8<<10)+"\r\n\r\n"), "malformed HTTP", true)
	f("http://"+raw(t, "HTTP/1.1 307 Elsewhere\r\nLocation: :"+strings.Repeat("x", 8<<10)+"\r\n\r\n"), "it answered HTTP 307", true)
	// A proxy's answer is small, and so are its headers.
	f("http://"+raw(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n{\"result\":{}}"), "headers exceeded", true)
}

// Who waits no longer is told so, and by whom.
func TestTimeoutIsKnown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it takes connections and answers nothing
	c := newClient(t, Config{URL: "http://" + l.Addr().String(), Secret: secret.NewText("x"), Timeout: 20 * time.Millisecond})
	ctx, cancel := c.Bound(t.Context())
	defer cancel()
	err = c.Call(ctx, "m", nil, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, new(*NoAnswerError)) || !strings.Contains(err.Error(), "in time") {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := c.Call(ctx, "m", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

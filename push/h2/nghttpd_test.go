package h2

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNghttpd talks to a server that others have made, which looks at what we send
// more closely than we do.
func TestNghttpd(t *testing.T) {
	path, err := exec.LookPath("nghttpd")
	if err != nil {
		t.Skip("nghttpd is not on PATH: tests/setup/nghttpd.sh")
	}
	for _, args := range []string{
		"", "-m 1", "-m 3 -b 255", "-w 10 -W 17", "--encoder-header-table-size 0", "--header-table-size 0", "--header-table-size 65536",
		"--trailer a:b", "--early-response", "--no-content-length",
	} {
		t.Run(args, func(t *testing.T) {
			c := dialNghttpd(t, path, strings.Fields(args))
			var pushes sync.WaitGroup
			for i := range 20 {
				pushes.Go(func() {
					for j := range 20 {
						body := fmt.Sprintf("%d %0*d", i, 1+j*200, j)
						r := get(t, do(c, t.Context(), body))
						if r.err != nil || r.resp.Status != 200 {
							t.Errorf("%v %v", r.err, r.resp.Status)
							return
						}
						if got := string(r.resp.Body); args != "--early-response" && got != body[:min(len(body), testConfig.MaxBody)] {
							t.Errorf("got %.20q of %d bytes for %.20q of %d", got, len(got), body, len(body))
						}
					}
				})
			}
			pushes.Wait()
			if err := c.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

func dialNghttpd(t *testing.T, path string, args []string) *Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // nghttpd takes it
	cmd := exec.Command(path, append(args, "--no-tls", "--echo-upload", "-a", "127.0.0.1", "-d", t.TempDir(), strconv.Itoa(port))...)
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			c, err := New(t.Context(), nc, testConfig)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		select {
		case <-ended:
			t.Fatal("nghttpd ended: ", out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

package app

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// The pages ask for the password; without one they are for loopback addresses only,
// under a loopback name, so that no web site reads them through a browser.
func TestPagesAreGuarded(t *testing.T) {
	a, _ := started(t)
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	ask := func(password secret.Text, from, host, given string) int {
		o := &operations{mux: http.NewServeMux(), listener: &listener{open: a.operations.open}}
		o.addPages(ok, func() secret.Text { return password })
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Host = from, host
		if given != "" {
			r.SetBasicAuth("any", given)
		}
		w := httptest.NewRecorder()
		o.mux.ServeHTTP(w, r)
		return w.Code
	}
	none, some := secret.Text{}, secret.NewText("a long password")
	for _, c := range []struct {
		password          secret.Text
		from, host, given string
		want              int
	}{
		{none, "127.0.0.1:9", "127.0.0.1:8061", "", 200},
		{none, "[::1]:9", "localhost:8061", "", 200},
		{none, "127.0.0.1:9", "evil.example", "", 403},
		{none, "192.0.2.1:9", "127.0.0.1", "", 403},
		{some, "127.0.0.1:9", "127.0.0.1", "", 401},
		{some, "192.0.2.1:9", "ops.example", "wrong", 401},
		{some, "192.0.2.1:9", "ops.example", "a long password", 200},
	} {
		if got := ask(c.password, c.from, c.host, c.given); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if isLoopback("0.0.0.0:8061") || isLoopback("[::]:8061") {
		t.Error("a listener for all is taken for a loopback one")
	}
	if status, _ := get(t, a, "/metrics"); status != 200 {
		t.Errorf("/metrics: %d", status)
	}
}

// A client that guesses is not listened to any more, be its next guess right; others are,
// and so is one that has not sent a password yet.
func TestPagesPasswordIsNotGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &operations{mux: http.NewServeMux(), listener: &listener{}}
		o.addPages(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func() secret.Text { return secret.NewText("right") })
		ask := func(from, password string, want int) {
			t.Helper()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if r.RemoteAddr = from; password != "" {
				r.SetBasicAuth("any", password)
			}
			w := httptest.NewRecorder()
			o.mux.ServeHTTP(w, r)
			if w.Code != want || (w.Header().Get("Retry-After") != "") != (want == http.StatusTooManyRequests) {
				t.Errorf("%s %q: %d, want %d", from, password, w.Code, want)
			}
		}
		const guesser, same, other = "[2001:db8::1]:5", "[2001:db8::2]:6", "192.0.2.1:7"
		for range 20 {
			ask(guesser, "", http.StatusUnauthorized)
		}
		for range 10 {
			ask(guesser, "wrong", http.StatusUnauthorized)
		}
		ask(guesser, "right", http.StatusTooManyRequests)
		ask(same, "right", http.StatusTooManyRequests)
		ask(other, "right", http.StatusOK)
		time.Sleep(6 * time.Second)
		ask(guesser, "right", http.StatusOK)
		ask(guesser, "wrong", http.StatusUnauthorized)
		ask(guesser, "right", http.StatusTooManyRequests)
	})
}

// A password that was changed in its file is asked for after a reload, as every other
// secret is.
func TestPagePasswordIsReloaded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	set := func(password string) {
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("the first one")
	a, _ := started(t)
	cfg := *a.cfg
	cfg.Operations.PasswordFile = file
	if err := a.Reload(&cfg); err != nil {
		t.Fatal(err)
	}
	ask := func(password string) int {
		req, err := http.NewRequest(http.MethodGet, "http://"+a.OperationsAddr()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("any", password)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := []int{ask("the first one"), ask("")}; got[0] != 200 || got[1] != 401 {
		t.Errorf("a password that is new: %d", got)
	}
	set("the second one")
	if err := a.Reload(&cfg); err != nil {
		t.Fatal(err)
	}
	if got := []int{ask("the second one"), ask("the first one")}; got[0] != 200 || got[1] != 401 {
		t.Errorf("after it was changed: %d", got)
	}
	set("")
	if err := a.Reload(&cfg); err == nil {
		t.Error("an empty password was taken")
	}
	if got := ask("the second one"); got != 200 {
		t.Errorf("after a reload that failed: %d", got)
	}
}

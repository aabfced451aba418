package app

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sipwake/sipwake/internal/secret"
)

// The pages ask for the password; without one they are for loopback addresses only,
// under a loopback name, so that no web site reads them through a browser.
func TestPagesAreGuarded(t *testing.T) {
	a, _ := started(t)
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	ask := func(password secret.Text, from, host, given string) int {
		o := &operations{mux: http.NewServeMux(), listener: &listener{open: a.operations.open}}
		o.addPages(ok, password)
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

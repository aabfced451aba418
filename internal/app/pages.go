package app

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/limit"
	"github.com/sipwake/sipwake/internal/page"
	"github.com/sipwake/sipwake/internal/secret"
)

// pagePassword returns the password of the pages, empty if there is none.
func pagePassword(cfg *config.Config) (secret.Text, error) {
	if cfg.Operations.PasswordFile == "" {
		return secret.Text{}, nil
	}
	return secret.ReadText(cfg.Operations.PasswordFile)
}

// pages returns the pages of the operations listener.
func (a *App) pages() http.Handler {
	return page.New(page.Source{Wakes: a.service, History: a.history, Calls: a.traces.Find, Info: func() page.Info {
		i := page.Info{Version: a.version, Instance: a.service.Instance(), Store: a.cfg.Store.Type,
			Uptime: time.Since(a.began), Apps: a.dispatcher.Apps()}
		for _, n := range a.nodes.info() {
			i.Nodes = append(i.Nodes, page.Node{ID: n.ID, Type: n.Type, State: string(n.State), Error: n.Error})
		}
		return i
	}})
}

// guessing is how many wrong passwords a client may send. Further ones are not looked at.
func guessing() limit.Rate { return limit.Per(time.Minute, 10) }

// maxGuessers bounds the clients whose wrong passwords are counted.
const maxGuessers = 10_000

// addPages serves pages to clients that know the current password or, if there is none,
// to requests from and to loopback addresses. Call it before start.
func (o *operations) addPages(pages http.Handler, ask func() secret.Text) {
	wrong := limit.New[netip.Addr](maxGuessers)
	o.mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		if password := ask(); !password.Empty() {
			if status := admits(password, r, wrong); status != http.StatusOK {
				refusePage(w, status)
				return
			}
		} else if !isLoopback(o.addr()) || !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) {
			http.Error(w, "set operations.password_file to see this page from other than a loopback address", http.StatusForbidden)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

// admits returns the HTTP status for a request to a page with a password.
func admits(password secret.Text, r *http.Request, wrong *limit.Buckets[netip.Addr]) int {
	_, p, ok := r.BasicAuth()
	if !ok {
		return http.StatusUnauthorized // a browser asks its user now
	}
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	client, now := limit.Client(peer.Addr()), time.Now()
	switch {
	case !wrong.Has(client, guessing(), now):
		return http.StatusTooManyRequests
	case !password.Equal(p):
		wrong.Take(client, guessing(), now)
		return http.StatusUnauthorized
	}
	return http.StatusOK
}

func refusePage(w http.ResponseWriter, status int) {
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(int(guessing().Every.Seconds())))
		http.Error(w, "too many wrong passwords from this address: wait some seconds", status)
		return
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="sipwake", charset="UTF-8"`)
	http.Error(w, "the password of operations.password_file is needed", status)
}

// isLoopback reports whether the address, with or without a port, is a loopback address.
// A Host with another name may be a web site whose DNS points here (DNS rebinding).
func isLoopback(addr string) bool {
	host := addr
	if h, _, err := net.SplitHostPort(addr); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

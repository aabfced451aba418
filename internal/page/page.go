// Package page shows operators what sipwake does: a few read-only pages that load nothing
// from other sites and are complete without JavaScript.
package page

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// Node is a SIP proxy and the result of its last probe.
type Node struct{ ID, Type, State, Error string }

// Info is what the overview shows about this instance.
type Info struct {
	Version, Instance, Store string
	Uptime                   time.Duration
	Nodes                    []Node
	Apps                     []push.AppInfo
}

// Source provides the data for the pages. Its parts are safe for concurrent use.
type Source struct {
	Info  func() Info
	Calls func(ctx context.Context, q trace.Query, part string) trace.Found
	Wakes *wake.Service
	// History has the data for the graphs.
	History *History
}

// Limits of what one page shows.
const (
	lastCalls = 20
	mostFound = 100
	mostRows  = 200
	mostText  = 300 // maximum length of a search term, in bytes
	patience  = 3 * time.Second
)

//go:embed page.html style.css live.js
var files embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"span": trace.Span, "verdict": func(t trace.Timeline) string { return trace.Verdict(&t) },
	"tone": tone,
	"clock": func(t time.Time) string {
		if time.Since(t) < 12*time.Hour {
			return t.UTC().Format("15:04:05")
		}
		return t.UTC().Format("2 Jan 15:04")
	},
	"short": func(device string) string { return "…" + device[max(0, len(device)-9):] },
	"time": func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
	},
}).ParseFS(files, "page.html"))

// New returns the handler of /, /search, /call, /user, /events (server-sent events
// with the overview), /style.css and /live.js.
func New(s Source) http.Handler {
	mux, events := http.NewServeMux(), newLive(s.renderLive)
	mux.HandleFunc("GET /{$}", s.overview)
	mux.HandleFunc("GET /search", s.search)
	mux.HandleFunc("GET /call", s.call)
	mux.HandleFunc("GET /user", s.user)
	for _, name := range []string{"style.css", "live.js"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, name) })
	}
	// Browsers request it by themselves. Without this, each one logs an error.
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if r.Method == http.MethodGet && r.URL.Path == "/events" {
			events.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		mux.ServeHTTP(w, r.WithContext(ctx))
	})
}

func show(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// asked returns a search term of the request, with limited length.
func asked(r *http.Request, name string) string {
	s := strings.TrimSpace(r.URL.Query().Get(name))
	return s[:min(len(s), mostText)]
}

// binding is a binding of a user, without its Contact, which contains the push token.
type binding struct {
	Device, Provider, App, Environment, Node, UserAgent string
	RegisteredAt, ExpiresAt                             time.Time
	Expired, Served                                     bool
}

func (s Source) user(w http.ResponseWriter, r *http.Request) {
	aor := asked(r, "aor")
	known, err := s.Wakes.Bindings(r.Context(), aor, secret.Token{})
	if err != nil {
		show(w, http.StatusNotFound, "absent", "This user's bindings cannot be shown: no such address, or the store is away.")
		return
	}
	gone, err := s.Wakes.Removals(r.Context(), aor)
	list := make([]binding, 0, len(known))
	for _, b := range known[:min(len(known), mostRows)] {
		v := binding{b.Device, string(b.Address.Provider), b.Address.App, string(b.Address.Environment), b.Node, b.UserAgent,
			b.RegisteredAt, b.ExpiresAt, time.Now().After(b.ExpiresAt), s.Wakes.Serves(b)}
		list = append(list, v)
	}
	show(w, http.StatusOK, "user", map[string]any{"AOR": aor, "Bindings": list,
		"Gone": gone[max(0, len(gone)-mostRows):], "GoneUnknown": err != nil})
}

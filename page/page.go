// Package page shows an operator what sipwake does: a few read-only pages, without
// scripts and without anything from elsewhere.
package page

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/secret"
	"github.com/sipwake/sipwake/trace"
	"github.com/sipwake/sipwake/wake"
)

// Node is a SIP proxy, and how it answered when it was last probed.
type Node struct{ ID, Type, State, Error string }

// Info is what the overview says of this instance.
type Info struct {
	Version, Instance, Store string
	Uptime                   time.Duration
	Nodes                    []Node
	Apps                     []push.AppInfo
}

// Source is where the pages have it all from. Its parts are safe for concurrent use.
type Source struct {
	Info  func() Info
	Calls func(ctx context.Context, q trace.Query, part string) trace.Found
	Wakes *wake.Service
}

// Bounds of what one page shows.
const (
	lastCalls = 20
	mostFound = 100
	mostRows  = 200
	mostText  = 300 // bytes of what is looked for
	patience  = 3 * time.Second
)

//go:embed page.html style.css
var files embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"span": trace.Span, "verdict": func(t trace.Timeline) string { return trace.Verdict(&t) },
	"time": func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
	},
}).ParseFS(files, "page.html"))

// New returns the handler of /, /style.css, /search, /call and /user.
func New(s Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.overview)
	mux.HandleFunc("GET /search", s.search)
	mux.HandleFunc("GET /call", s.call)
	mux.HandleFunc("GET /user", s.user)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "style.css")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
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

// asked returns what is looked for, bounded.
func asked(r *http.Request, name string) string {
	s := strings.TrimSpace(r.URL.Query().Get(name))
	return s[:min(len(s), mostText)]
}

func (s Source) overview(w http.ResponseWriter, r *http.Request) {
	level, reasons := s.Wakes.Load()
	info := s.Info()
	info.Nodes = info.Nodes[:min(len(info.Nodes), mostRows)]
	info.Apps = info.Apps[:min(len(info.Apps), mostRows)]
	show(w, http.StatusOK, "overview", map[string]any{"Info": info, "Level": int(level), "Reasons": reasons,
		"Live": r.URL.Query().Has("live"), "Found": s.Calls(r.Context(), trace.Query{Limit: lastCalls}, "")})
}

// search looks for a user or a part of one, and for a Call-ID if there is none.
func (s Source) search(w http.ResponseWriter, r *http.Request) {
	q := asked(r, "q")
	var found trace.Found
	if q != "" {
		found = s.Calls(r.Context(), trace.Query{CallID: q, Limit: mostFound}, "")
		if len(found.Timelines) == 0 {
			found = s.Calls(r.Context(), trace.Query{Limit: mostFound}, q)
		}
	}
	show(w, http.StatusOK, "search", map[string]any{"Q": q, "Found": found})
}

// row is an event of a ladder: at which column it happens.
type row struct {
	trace.Event
	After  time.Duration
	Column int
}

// columns are those of a ladder: from the caller to the phone.
var columns = []string{"caller", "proxy", "sipwake", "push service", "phone"}

func columnOf(n trace.EventName) int {
	switch n {
	case trace.Ended:
		return 0
	case trace.Held, trace.Signalled, trace.Lost, trace.GaveUp:
		return 1
	case trace.Pushing, trace.Accepted, trace.Failed:
		return 3
	case trace.Registered, trace.Answering, trace.Awake:
		return 4
	}
	return 2
}

func (s Source) call(w http.ResponseWriter, r *http.Request) {
	id, callID := asked(r, "id"), asked(r, "call_id")
	if callID != "" {
		for _, t := range s.Calls(r.Context(), trace.Query{CallID: callID, Limit: mostFound}, "").Timelines {
			if id != "" && t.ID != id {
				continue
			}
			rows := make([]row, 0, len(t.Events))
			for _, e := range t.Events[:min(len(t.Events), mostRows)] {
				rows = append(rows, row{e, max(e.At.Sub(t.StartedAt), 0), columnOf(e.Name)})
			}
			show(w, http.StatusOK, "call", map[string]any{"Call": t, "Rows": rows, "Columns": columns,
				"More": len(t.Events) - len(rows) + t.Omitted})
			return
		}
	}
	show(w, http.StatusNotFound, "absent", "This call is not known (any more).")
}

// binding is one of a user, without its Contact, which holds the push token.
type binding struct {
	Device, Provider, App, Environment, Node, UserAgent string
	RegisteredAt, ExpiresAt                             time.Time
	Expired                                             bool
	Tokens                                              []secret.Token
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
			b.RegisteredAt, b.ExpiresAt, time.Now().After(b.ExpiresAt), nil}
		for _, t := range b.Address.Tokens {
			v.Tokens = append(v.Tokens, t.Value)
		}
		list = append(list, v)
	}
	show(w, http.StatusOK, "user", map[string]any{"AOR": aor, "Bindings": list,
		"Gone": gone[max(0, len(gone)-mostRows):], "GoneUnknown": err != nil})
}

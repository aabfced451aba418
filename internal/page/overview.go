package page

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/trace"
	"github.com/sipwake/sipwake/internal/wake"
	"github.com/sipwake/sipwake/push"
)

// app is an app in the overview.
type app struct {
	push.AppInfo
	Expiry  time.Time
	Expires string // "", "soon" or "past"
	Last    last
}

// soon is how long before a credential expires the page warns.
const soon = 30 * 24 * time.Hour

// overviewNode is a node and its answer to the last signal.
type overviewNode struct {
	Node
	Last last
}

// overviewData returns the data for the template "live".
func (s Source) overviewData(ctx context.Context) map[string]any {
	level, reasons := s.Wakes.Load()
	info := s.Info()
	instances, expiry, errors, signals := s.History.moment()
	apps := make([]app, 0, len(info.Apps))
	for _, a := range info.Apps[:min(len(info.Apps), mostRows)] {
		k := AppKey{string(a.Provider), a.Package}
		v := app{AppInfo: a, Expiry: expiry[k], Last: errors[k]}
		switch left := time.Until(v.Expiry); {
		case v.Expiry.IsZero():
		case left < 0:
			v.Expires = "past"
		case left < soon:
			v.Expires = "soon"
		}
		apps = append(apps, v)
	}
	nodes := make([]overviewNode, 0, len(info.Nodes))
	for _, n := range info.Nodes[:min(len(info.Nodes), mostRows)] {
		nodes = append(nodes, overviewNode{n, signals[n.ID]})
	}
	open := s.Wakes.OpenWakes()
	slices.SortFunc(open, func(a, b wake.Wake) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return map[string]any{"Info": info, "Level": int(level), "Reasons": reasons, "Instances": max(instances, 1),
		"Apps": apps, "Nodes": nodes, "Graphs": s.History.graphs(), "OpenCount": len(open),
		"Open": open[:min(len(open), lastCalls)], "Found": s.Calls(ctx, trace.Query{Limit: lastCalls}, "")}
}

func (s Source) overview(w http.ResponseWriter, r *http.Request) {
	data := s.overviewData(r.Context())
	data["Live"] = r.URL.Query().Has("live")
	show(w, http.StatusOK, "overview", data)
}

func (s Source) renderLive(ctx context.Context) ([]byte, error) {
	var b bytes.Buffer
	err := pages.ExecuteTemplate(&b, "live", s.overviewData(ctx))
	return b.Bytes(), err
}

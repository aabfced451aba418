package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// What is committed is what the program makes, and no more.
func TestDashboardsAreUpToDate(t *testing.T) {
	made, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	committed, err := filepath.Glob("dashboards/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(committed) != len(made) {
		t.Errorf("%d dashboards are committed, %d are made", len(committed), len(made))
	}
	for name, text := range made {
		got, err := os.ReadFile(filepath.Join("dashboards", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(text), string(got)); diff != "" {
			t.Errorf("%s is out of date, run make dashboards:\n%s", name, diff)
		}
	}
}

// The JSON is what Grafana's own schema has, with no field that it does not know, and
// the panels do not overlap.
func TestDashboardsFitTheSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins() // of panels and queries
	made, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range made {
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict(text); err != nil && err.Error() != "" { // an empty list of errors
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var raw struct {
			Panels []struct {
				ID      int
				Title   string
				GridPos struct{ X, Y, W, H int }
			}
		}
		if err := json.Unmarshal(text, &raw); err != nil {
			t.Fatal(err)
		}
		taken := map[[2]int]string{}
		ids := map[int]bool{}
		for _, p := range raw.Panels {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s: panel %q has no id of its own", name, p.Title)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.X+g.W > 24 {
				t.Errorf("%s: panel %q is too wide", name, p.Title)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s: panels %q and %q overlap", name, other, p.Title)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

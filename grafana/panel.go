package main

import (
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// panel is one panel of a dashboard.
type panel struct {
	kind    kind
	title   string
	help    string // says what is shown, and what to do if it looks bad
	unit    string
	queries []query
	width   uint32  // of 24 columns; 0 is the default of the kind
	stacked bool    // areas that add up
	most    float64 // upper end of the axis; 0: from the values
	// steps are the thresholds at which a value becomes good, doubtful or bad.
	steps []step
	names map[string]string // texts for values, such as "down" for 0
	// rare completes "Empty unless": when the panel has data. Empty if it always has.
	rare string
}

type kind int

const (
	graph kind = iota
	number
	states
	list
)

// query is one query of a panel. In expr, $at stands for the selection of instances,
// and $app for that of apps.
type query struct{ expr, legend string }

// step is the color of values from one value on.
type step struct {
	from  float64
	color string
}

const (
	green  = "green"
	yellow = "yellow"
	red    = "red"
)

// rising returns steps for values that should be low: green below doubt, red from bad on.
func rising(doubt, bad float64) []step {
	return []step{{0, green}, {doubt, yellow}, {bad, red}}
}

// falling returns steps for values that should be high: red below doubt, green from good on.
func falling(doubt, good float64) []step {
	return []step{{0, red}, {doubt, yellow}, {good, green}}
}

// none are the steps of a value that should be 0.
var none = []step{{0, green}, {1, red}}

const (
	at  = `job=~"$job",instance=~"$instance"`
	app = `provider=~"$provider",app=~"$app"`
)

func (p *panel) build(id uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case number:
		return p.number(id)
	case states:
		return p.states(id)
	case list:
		return p.list(id)
	}
	return p.graph(id)
}

func (p *panel) graph(id uint32) cog.Builder[dashboard.Panel] {
	b := timeseries.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Datasource(source).
		Height(8).Span(p.span(8)).Unit(p.unit).Min(0).Targets(p.targets(false)).
		LineWidth(1).FillOpacity(10).ShowPoints(common.VisibilityModeNever).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(true).DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom).Calcs([]string{})).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	if p.stacked {
		b.Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal)).FillOpacity(40)
	}
	if p.most > 0 {
		b.Max(p.most)
	}
	if len(p.steps) > 0 {
		b.Thresholds(thresholds(p.steps)).
			ThresholdsStyle(common.NewGraphThresholdsStyleConfigBuilder().Mode(common.GraphThresholdsStyleModeDashed))
	}
	return b
}

func (p *panel) number(id uint32) cog.Builder[dashboard.Panel] {
	b := stat.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Datasource(source).
		Height(4).Span(p.span(4)).Unit(p.unit).Targets(p.targets(false)).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"})).
		GraphMode(common.BigValueGraphModeArea).ColorMode(common.BigValueColorModeValue).Mappings(p.mappings())
	if len(p.steps) > 0 {
		b.Thresholds(thresholds(p.steps)).ColorMode(common.BigValueColorModeBackground)
	}
	return b
}

func (p *panel) states(id uint32) cog.Builder[dashboard.Panel] {
	return statetimeline.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Datasource(source).
		Height(8).Span(p.span(12)).Unit(p.unit).Targets(p.targets(false)).Mappings(p.mappings()).Thresholds(thresholds(p.steps)).
		ShowValue(common.VisibilityModeNever).RowHeight(0.8).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
		Legend(common.NewVizLegendOptionsBuilder().ShowLegend(false).DisplayMode(common.LegendDisplayModeList).
			Placement(common.LegendPlacementBottom).Calcs([]string{}))
}

func (p *panel) list(id uint32) cog.Builder[dashboard.Panel] {
	return table.NewPanelBuilder().Id(id).Title(p.title).Description(p.description()).Datasource(source).
		Height(8).Span(p.span(12)).Unit(p.unit).Targets(p.targets(true)).Thresholds(thresholds(p.steps)).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{})).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": map[string]bool{"Time": true, "__name__": true, "job": true, "Value": len(p.steps) == 0},
		}}).
		OverrideByName("Value", []dashboard.DynamicConfigValue{
			{Id: "custom.cellOptions", Value: map[string]string{"type": "color-text"}},
			{Id: "displayName", Value: "value"},
		})
}

// description returns the help, and when the panel is empty.
func (p *panel) description() string {
	if p.rare == "" {
		return p.help
	}
	return p.help + " Empty unless " + p.rare + "."
}

func (p *panel) span(own uint32) uint32 {
	if p.width > 0 {
		return p.width
	}
	return own
}

// targets returns the queries. With now they return the last value only, as a table.
func (p *panel) targets(now bool) []cog.Builder[variants.Dataquery] {
	var made []cog.Builder[variants.Dataquery]
	for i, q := range p.queries {
		expr := strings.NewReplacer("$at", at, "$app", app).Replace(q.expr)
		b := prometheus.NewDataqueryBuilder().RefId(string(rune('A' + i))).Expr(expr).LegendFormat(q.legend)
		if now {
			b.Instant().Format(prometheus.PromQueryFormatTable)
		} else {
			b.Range()
		}
		made = append(made, b)
	}
	return made
}

func (p *panel) mappings() []dashboard.ValueMapping {
	if len(p.names) == 0 {
		return []dashboard.ValueMapping{}
	}
	m := dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: map[string]dashboard.ValueMappingResult{}}
	for value, text := range p.names {
		m.Options[value] = dashboard.ValueMappingResult{Text: &text}
	}
	return []dashboard.ValueMapping{{ValueMap: &m}}
}

func thresholds(steps []step) *dashboard.ThresholdsConfigBuilder {
	list := []dashboard.Threshold{}
	for i, s := range steps {
		t := dashboard.Threshold{Color: s.color, Value: &s.from}
		if i == 0 {
			t.Value = nil // from minus infinity on
		}
		list = append(list, t)
	}
	if len(list) == 0 {
		list = append(list, dashboard.Threshold{Color: green})
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(list)
}

package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// board is one dashboard.
type board struct {
	uid, title, help string
	byApp            bool // has variables to select a push service and an app
	rows             []row
}

type row struct {
	title  string
	panels []panel
}

// docs is the address of the documentation.
const docs = "https://github.com/sipwake/sipwake/blob/main/docs/"

var source = common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}

func (b *board) build() (dashboard.Dashboard, error) {
	made := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.help).Tags([]string{"sipwake"}).
		Time("now-1h", "now").Refresh("30s").Timezone("browser").Editable().Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("sipwake").Type(dashboard.DashboardLinkTypeDashboards).
			Tags([]string{"sipwake"}).AsDropdown(false).IncludeVars(true).KeepTime(true)).
		Link(dashboard.NewDashboardLinkBuilder("what alerts mean").Type(dashboard.DashboardLinkTypeLink).
			Url(docs + "ALERTS.md").Icon("doc").TargetBlank(true)).
		Link(dashboard.NewDashboardLinkBuilder("what metrics mean").Type(dashboard.DashboardLinkTypeLink).
			Url(docs + "METRICS.md").Icon("doc").TargetBlank(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus")).
		WithVariable(choice("job", "Job", `label_values(sipwake_build_info, job)`)).
		WithVariable(choice("instance", "Instance", `label_values(sipwake_build_info{job=~"$job"}, instance)`))
	if b.byApp {
		made.WithVariable(choice("provider", "Push service", `label_values(sipwake_push_total{`+at+`}, provider)`)).
			WithVariable(choice("app", "App", `label_values(sipwake_push_total{`+at+`,provider=~"$provider"}, app)`))
	}
	id := uint32(0)
	for _, r := range b.rows {
		id++
		made.WithRow(dashboard.NewRowBuilder(r.title).Id(id))
		for i := range r.panels {
			id++
			made.WithPanel(r.panels[i].build(id))
		}
	}
	return made.Build()
}

// choice returns a variable with the values that the query finds; all are selected at first.
func choice(name, label, find string) *dashboard.QueryVariableBuilder {
	all := dashboard.VariableOption{Selected: new(true), Text: dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
		Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}}}
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source).Query(dashboard.StringOrMap{String: &find}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).IncludeAll(true).AllValue(".*").Current(all)
}

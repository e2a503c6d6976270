package observability_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"example.com/base-app/pkg/telemetry"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	query "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const dashboardFile = "grafana/dashboards/app.json"

// panel is one of the dashboard, as far as this test reads it.
type panel struct {
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	Targets                  []struct {
		Expr       string
		Datasource struct{ Type, UID string }
	}
	FieldConfig struct{ Defaults struct{ Unit string } }
	GridPos     struct{ X, Y, W, H int }
}

func panels(t *testing.T) (list []panel) {
	t.Helper()
	var d struct{ Panels []panel }
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) < 30 {
		t.Fatalf("want the panels of the dashboard, have %d", len(d.Panels))
	}
	return d.Panels
}

// variables of Grafana, and what stands for them here.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$job", "app", "$instance", ".*")

func TestTheDashboardFitsGrafanasSchema(t *testing.T) {
	schemas := cog.NewRuntime() // of the panels and queries that there are
	for _, kind := range []variants.PanelcfgConfig{stat.VariantConfig(), statetimeline.VariantConfig(), table.VariantConfig(), timeseries.VariantConfig()} {
		schemas.RegisterPanelcfgVariant(kind)
	}
	schemas.RegisterDataqueryVariant(query.VariantConfig())
	//lint:ignore SA1019 the second schema is no file's yet, and Grafana 11 doesn't know it
	var d dashboard.Dashboard
	// With nothing to say its error is not nil, but empty.
	if err := d.UnmarshalJSONStrict([]byte(read(t, dashboardFile))); err != nil && err.Error() != "" {
		t.Errorf("not a dashboard: %v", err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if d.Uid == nil || d.Title == nil || len(d.Templating.List) < 3 {
		t.Error("want a dashboard with a name for links, a title, and variables for the data source, the job and the instance")
	}
}

func TestEachPanelSaysWhatItShows(t *testing.T) {
	source := struct{ Type, UID string }{"prometheus", "${datasource}"}
	var rows []string
	var taken []panel
	for _, p := range panels(t) {
		for _, other := range taken {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s lies over %s", p.Title, other.Title)
			}
		}
		taken = append(taken, p)
		if p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is wider than the 24 columns", p.Title)
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if !slices.Contains([]string{"stat", "state-timeline", "table", "timeseries"}, p.Type) {
			t.Errorf("%s: the schema of %s is not looked at", p.Title, p.Type)
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("want a title, a description, a unit and a query, have %+v", p)
		}
		if p.Datasource != source {
			t.Errorf("%s: want the data source of the variable, have %v", p.Title, p.Datasource)
		}
		for _, q := range p.Targets {
			if q.Datasource != source {
				t.Errorf("%s: want the data source of the variable, have %v", p.Title, q.Datasource)
			}
		}
	}
	want := []string{"Objectives", "Requests", "Events and queue", "Workers and restarts", "Dependencies", "ZeroMQ", "Go runtime", "Telemetry itself"}
	if !slices.Equal(rows, want) {
		t.Errorf("want the rows %q, have %q", want, rows)
	}
}

// Each series that the dashboard or a rule names is one that a running app shows: the template's own, or service1 of the demo,
// which calls somebody.
func TestWhatTheDashboardAndTheRulesNameIsExported(t *testing.T) {
	dir := programs(t)
	app := start(t, dir, "app", "METRICS_ADDR=127.0.0.1:0", "GOMEMLIMIT=1GiB", "QUEUE_MAX_DELIVERIES=1",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_METRICS_EXPORTER=none") // nobody is there: it shows what was dropped
	caller := start(t, dir, "service1", "METRICS_ADDR=127.0.0.1:0", "APP_SERVICE2_URL=http://127.0.0.1:1")
	app.post(t, `{"type":"order.created"}`)
	for range 10 { // the breaker opens
		caller.get(t, "/")
	}
	caller.get(t, "/honeypot/")
	app.stop(t)
	app = start(t, dir, "app", "METRICS_ADDR=127.0.0.1:0", "GOMEMLIMIT=1GiB", "DATA_DIR="+app.data, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_METRICS_EXPORTER=none")
	app.post(t, `{"type":"order.created"}`)

	var wanted []string
	for _, r := range rules(t) {
		wanted = append(wanted, examine(t, r.Record+r.Alert, r.Expr)...)
	}
	for _, p := range panels(t) {
		for _, q := range p.Targets {
			wanted = append(wanted, examine(t, p.Title, variables.Replace(q.Expr))...)
		}
	}
	slices.Sort(wanted)
	table := known(t)
	ours := func(name string) bool {
		return slices.ContainsFunc(telemetry.Metrics(), func(m telemetry.Metric) bool { return strings.HasPrefix(name, m.Exported()) })
	}
	missing := slices.DeleteFunc(slices.Compact(wanted), func(name string) bool { return table[name] == "" || !ours(name) })
	eventually(t, "all series that are named are exported", func() bool {
		shown := "\n" + app.metrics(t) + caller.metrics(t)
		missing = slices.DeleteFunc(missing, func(name string) bool {
			return strings.Contains(shown, "\n"+name+"{") || strings.Contains(shown, "\n"+name+" ")
		})
		return len(missing) == 0
	}, func() string { return fmt.Sprintf("no app shows %q", missing) })
}

// Package observability_test proves that what watches the app fits the app: Prometheus' own tool checks and tests the rules,
// Grafana's schema and PromQL's parser read the dashboard, each metric that they name is one that the running app exports, and
// each alert has its part of docs/runbooks.md. A real Prometheus and a real Alertmanager follow one failing event from the
// alert to the stack. It pulls no images: compose's loader reads the overlay in docker/cluster, and the collector's
// configuration is run in docker/observability/collector.
package observability_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.com/base-app/pkg/telemetry"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// decode reads a YAML file, in which no field may be unknown.
func decode(t *testing.T, name string, into any) {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewBufferString(read(t, name)))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// rule is one that records, or one that alerts.
type rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// rules returns what Prometheus loads.
func rules(t *testing.T) (list []rule) {
	t.Helper()
	files, _ := filepath.Glob("prometheus/*.rules.yml")
	for _, name := range files {
		var file struct {
			Groups []struct {
				Name, Interval string
				Rules          []rule
			}
		}
		decode(t, name, &file)
		for _, g := range file.Groups {
			list = append(list, g.Rules...)
		}
	}
	if len(list) < 40 {
		t.Fatalf("want all rules, have %d in %q", len(list), files)
	}
	return list
}

func alerts(t *testing.T) []rule {
	return slices.DeleteFunc(rules(t), func(r rule) bool { return r.Alert == "" })
}

// known returns the kind of each series that there is: those of the app, those that rules record, and Prometheus' own. Each
// suffix of a histogram is one.
func known(t *testing.T) map[string]telemetry.Kind {
	t.Helper()
	names := map[string]telemetry.Kind{"up": telemetry.Gauge, "ALERTS": telemetry.Gauge}
	for _, m := range telemetry.Metrics() {
		if m.Kind != telemetry.Histogram {
			names[m.Exported()] = m.Kind
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			names[m.Exported()+suffix] = telemetry.Counter
		}
	}
	for _, r := range rules(t) {
		if r.Record != "" {
			names[r.Record] = telemetry.Gauge
		}
	}
	return names
}

// own are the labels that series get from Prometheus or from the recording rules.
var own = []string{"__name__", "job", "instance", "le", "slo", "alertname", "alertstate", "severity"}

// label returns whether the app's metric has a label, by the table.
func label(series, name string) bool {
	for _, m := range telemetry.Metrics() {
		if series == m.Exported() || m.Kind == telemetry.Histogram && slices.Contains([]string{"_bucket", "_sum", "_count"}, strings.TrimPrefix(series, m.Exported())) {
			return slices.ContainsFunc(m.Labels, func(l string) bool { return strings.ReplaceAll(l, ".", "_") == name })
		}
	}
	return false
}

// examine parses an expression and returns the series that it names. It fails for a series or a label that isn't there, and
// where a counter is read as it is.
func examine(t *testing.T, where, expr string) (named []string) {
	t.Helper()
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v in %s", where, err, expr)
		return nil
	}
	there := known(t)
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		named = append(named, v.Name)
		if _, ok := there[v.Name]; !ok {
			t.Errorf("%s: nobody exports %s", where, v.Name)
		}
		for _, m := range v.LabelMatchers {
			if !slices.Contains(own, m.Name) && !label(v.Name, m.Name) {
				t.Errorf("%s: %s has no label %s", where, v.Name, m.Name)
			}
		}
		return nil
	})
	return named
}

// find returns the first group of every match in a file, and fails where there is none.
func find(t *testing.T, name, pattern string) (all []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(read(t, name), -1) {
		all = append(all, m[1])
	}
	if len(all) == 0 {
		t.Fatalf("%s has nothing like %s", name, pattern)
	}
	return all
}

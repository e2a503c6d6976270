package export

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Kind is what a metric counts like.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"   // only grows, from 0 at the start
	Gauge     Kind = "gauge"     // goes up and down
	Histogram Kind = "histogram" // counts in buckets
)

// Point is one value at one moment, as StatsD and InfluxDB take it.
type Point struct {
	Name  string // as exported
	Kind  Kind
	At    time.Time
	Attrs attribute.Set
	Value float64

	// of a histogram
	Count   uint64
	Bounds  []float64
	Buckets []uint64
}

// Points calls yield for each value in m. Exponential histograms and summaries are not made by us.
func Points(m *metricdata.ResourceMetrics, yield func(Point)) {
	for _, s := range m.ScopeMetrics {
		for _, metric := range s.Metrics {
			switch data := metric.Data.(type) {
			case metricdata.Sum[int64]:
				sums(metric, data, yield)
			case metricdata.Sum[float64]:
				sums(metric, data, yield)
			case metricdata.Gauge[int64]:
				numbers(metric, Gauge, data.DataPoints, yield)
			case metricdata.Gauge[float64]:
				numbers(metric, Gauge, data.DataPoints, yield)
			case metricdata.Histogram[float64]:
				histograms(metric, data.DataPoints, yield)
			case metricdata.Histogram[int64]:
				histograms(metric, data.DataPoints, yield)
			}
		}
	}
}

func sums[N int64 | float64](m metricdata.Metrics, data metricdata.Sum[N], yield func(Point)) {
	kind := Gauge
	if data.IsMonotonic {
		kind = Counter
	}
	numbers(m, kind, data.DataPoints, yield)
}

func numbers[N int64 | float64](m metricdata.Metrics, kind Kind, list []metricdata.DataPoint[N], yield func(Point)) {
	name := Name(m.Name, m.Unit, kind)
	for _, p := range list {
		yield(Point{Name: name, Kind: kind, At: p.Time, Attrs: p.Attributes, Value: float64(p.Value)})
	}
}

func histograms[N int64 | float64](m metricdata.Metrics, list []metricdata.HistogramDataPoint[N], yield func(Point)) {
	name := Name(m.Name, m.Unit, Histogram)
	for _, p := range list {
		yield(Point{Name: name, Kind: Histogram, At: p.Time, Attrs: p.Attributes, Value: float64(p.Sum),
			Count: p.Count, Bounds: p.Bounds, Buckets: p.BucketCounts})
	}
}

// Count returns the number of values in m.
func Count(m *metricdata.ResourceMetrics) (n int) {
	Points(m, func(Point) { n++ })
	return n
}

// Tags are the point's labels, and those of more that it lacks: sorted by name, none empty, none twice.
func (p Point) Tags(more [][2]string) [][2]string {
	var list [][2]string
	for _, kv := range p.Attrs.ToSlice() {
		list = append(list, [2]string{Label(string(kv.Key)), kv.Value.String()})
	}
	for _, t := range more {
		if !p.Attrs.HasValue(attribute.Key(t[0])) {
			list = append(list, t)
		}
	}
	list = slices.DeleteFunc(list, func(t [2]string) bool { return t[1] == "" })
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}

// Name is the name that OpenTelemetry's Prometheus exporter gives: with the unit, and _total for a counter.
func Name(name, unit string, k Kind) string {
	t := map[Kind]otlptranslator.MetricType{Counter: otlptranslator.MetricTypeMonotonicCounter,
		Gauge: otlptranslator.MetricTypeGauge, Histogram: otlptranslator.MetricTypeHistogram}[k]
	namer := otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)
	text, err := namer.Build(otlptranslator.Metric{Name: name, Unit: unit, Type: t})
	if err != nil { // only for an empty name
		return name
	}
	return text
}

// Label is a label's name in Prometheus, StatsD and InfluxDB.
func Label(key string) string { return strings.ReplaceAll(key, ".", "_") }

// Bound is the upper end of bucket i, for people and Prometheus.
func Bound(bounds []float64, i int) string {
	if i == len(bounds) {
		return "+Inf"
	}
	return strconv.FormatFloat(bounds[i], 'g', -1, 64)
}

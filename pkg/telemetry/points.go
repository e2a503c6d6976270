package telemetry

import (
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// point is one value at one moment, as StatsD and InfluxDB take it.
type point struct {
	name  string // as exported
	kind  Kind
	at    time.Time
	attrs attribute.Set
	value float64

	// of a histogram
	count   uint64
	bounds  []float64
	buckets []uint64
}

// points calls yield for each value in m. Exponential histograms and summaries are not made by us.
func points(m *metricdata.ResourceMetrics, yield func(point)) {
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

func sums[N int64 | float64](m metricdata.Metrics, data metricdata.Sum[N], yield func(point)) {
	kind := Gauge
	if data.IsMonotonic {
		kind = Counter
	}
	numbers(m, kind, data.DataPoints, yield)
}

func numbers[N int64 | float64](m metricdata.Metrics, kind Kind, list []metricdata.DataPoint[N], yield func(point)) {
	name := exportedName(m.Name, m.Unit, kind)
	for _, p := range list {
		yield(point{name: name, kind: kind, at: p.Time, attrs: p.Attributes, value: float64(p.Value)})
	}
}

func histograms[N int64 | float64](m metricdata.Metrics, list []metricdata.HistogramDataPoint[N], yield func(point)) {
	name := exportedName(m.Name, m.Unit, Histogram)
	for _, p := range list {
		yield(point{name: name, kind: Histogram, at: p.Time, attrs: p.Attributes, value: float64(p.Sum),
			count: p.Count, bounds: p.Bounds, buckets: p.BucketCounts})
	}
}

func countPoints(m *metricdata.ResourceMetrics) (n int) {
	points(m, func(point) { n++ })
	return n
}

// tags are the point's labels, and those of more that it lacks: sorted by name, none empty, none twice.
func (p point) tags(more [][2]string) [][2]string {
	var list [][2]string
	for _, kv := range p.attrs.ToSlice() {
		list = append(list, [2]string{exportedLabel(string(kv.Key)), kv.Value.String()})
	}
	for _, t := range more {
		if !p.attrs.HasValue(attribute.Key(t[0])) {
			list = append(list, t)
		}
	}
	list = slices.DeleteFunc(list, func(t [2]string) bool { return t[1] == "" })
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}

package telemetry

import (
	"context"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/base-app/pkg/fault"
)

// instruments are the ones that our code writes to. The others are read from a source (Observe).
type instruments struct {
	serverDuration, requestLatency metric.Float64Histogram
	clientDuration, clientLatency  metric.Float64Histogram
	zmqRecv                        metric.Float64Histogram
	publishing, waiting, handling  metric.Float64Histogram
	dependencyTry, job             metric.Float64Histogram
	requests, exceptions           metric.Int64Counter
	refused, breaker, strikes      metric.Int64Counter
	active                         metric.Int64UpDownCounter
	observed                       map[string]observed
}

// observed is an instrument that is read from a source, and the labels of its values.
type observed struct {
	instrument metric.Float64Observable
	labels     []attribute.Key
}

// makeInstruments makes all instruments from the table.
func (t *Telemetry) makeInstruments() (err error) {
	t.observed = map[string]observed{}
	written := map[string]any{
		nameServerDuration: &t.serverDuration, nameRequestLatency: &t.requestLatency, nameClientDuration: &t.clientDuration,
		nameClientLatency: &t.clientLatency, nameZMQRecv: &t.zmqRecv, namePublish: &t.publishing, nameWait: &t.waiting,
		nameHandle: &t.handling, nameRequestCount: &t.requests, nameExceptions: &t.exceptions,
		nameDependencyTry: &t.dependencyTry, nameRefused: &t.refused, nameBreaker: &t.breaker, nameStrikes: &t.strikes,
		nameServerActive: &t.active, nameJob: &t.job,
	}
	for _, m := range Metrics() {
		if m.foreign {
			continue
		}
		unit, meaning := metric.WithUnit(m.Unit), metric.WithDescription(m.Meaning)
		switch field := written[m.Name].(type) {
		case *metric.Float64Histogram:
			*field, err = t.meter.Float64Histogram(m.Name, unit, meaning, metric.WithExplicitBucketBoundaries(m.Buckets...))
		case *metric.Int64Counter:
			*field, err = t.meter.Int64Counter(m.Name, unit, meaning)
		case *metric.Int64UpDownCounter:
			*field, err = t.meter.Int64UpDownCounter(m.Name, unit, meaning)
		default:
			t.observed[m.Name], err = t.observe(m)
		}
		if err != nil {
			return fmt.Errorf("telemetry: instrument %s: %w", m.Name, err)
		}
	}
	return nil
}

// Put sets the value of a metric of the table that is not written to otherwise, with the values of its labels in the
// table's order. One that the table lacks is a mistake in the program: it is left out and logged.
type Put func(name string, value float64, labels ...string)

// Observe has read asked whenever metrics are sent or scraped. It should end with its context, at once or in a second,
// and must give every label from a set that doesn't grow. Beside those of the table it may put the metrics own, which are
// declared here, once in the process: counters and gauges. The error is a mistake in the program, and is the same whether
// anything is switched on or not.
func (t *Telemetry) Observe(read func(context.Context, Put), own ...Metric) error {
	for _, m := range own {
		if err := m.check(); err != nil {
			return fmt.Errorf("telemetry: metric %q: %w", m.Name, err)
		}
	}
	if t == nil || t.meters == nil {
		return nil
	}
	mine := map[string]observed{}
	for _, m := range own {
		o, err := t.observe(m)
		if err != nil {
			return err
		}
		mine[m.Name] = o
	}
	all := make([]metric.Observable, 0, len(t.observed)+len(mine))
	for _, list := range []map[string]observed{t.observed, mine} {
		for _, o := range list {
			all = append(all, o.instrument)
		}
	}
	_, err := t.meter.RegisterCallback(func(ctx context.Context, to metric.Observer) error {
		put := func(name string, value float64, labels ...string) {
			o, known := mine[name]
			if !known {
				o, known = t.observed[name]
			}
			if !known || len(labels) != len(o.labels) {
				t.mistakes.Failed(ctx, fmt.Errorf("no metric %q with %d labels is in the table", name, len(labels)))
				return
			}
			set := make([]attribute.KeyValue, len(labels))
			for i, v := range labels {
				set[i] = o.labels[i].String(v)
			}
			to.ObserveFloat64(o.instrument, value, metric.WithAttributeSet(attribute.NewSet(set...)))
		}
		return fault.Recover("telemetry: observe", func() error { read(ctx, put); return nil }) // measuring ends no process
	}, all...)
	if err != nil {
		return fmt.Errorf("telemetry: observe: %w", err)
	}
	return nil
}

// observe makes the instrument of a metric that is asked for.
func (t *Telemetry) observe(m Metric) (observed, error) {
	unit, meaning := metric.WithUnit(m.Unit), metric.WithDescription(m.Meaning)
	var o observed
	var err error
	if m.Kind == Counter {
		o.instrument, err = t.meter.Float64ObservableCounter(m.Name, unit, meaning)
	} else {
		o.instrument, err = t.meter.Float64ObservableGauge(m.Name, unit, meaning)
	}
	for _, l := range m.Labels {
		o.labels = append(o.labels, attribute.Key(l))
	}
	if err != nil {
		return o, fmt.Errorf("telemetry: instrument %s: %w", m.Name, err)
	}
	return o, nil
}

// observeSelf measures what runs and what is lost.
func (t *Telemetry) observeSelf(o Options) error {
	return t.Observe(func(_ context.Context, put Put) {
		put(nameBuild, 1, o.Version, o.Commit, o.Deployment, o.Go)
		for _, l := range t.core.Losses {
			put(nameDropped, float64(l.Dropped.Load()), l.Exporter)
			put(nameFailed, float64(l.Failed.Load()), l.Exporter)
		}
		t.zmq.read(put)
	})
}

const (
	// other replaces a value that is unknown or one too many. It is OpenTelemetry's own word for methods.
	other = "_OTHER"
	// most is how many values one label takes that come from a running program: hosts, endpoints.
	most = 64
)

// few lets the first values through and calls the others _OTHER, so that a label can't grow without end.
type few struct {
	mu   sync.RWMutex
	seen map[string]struct{}
}

func (f *few) admit(value string) string {
	f.mu.RLock()
	_, known := f.seen[value]
	full := len(f.seen) >= most
	f.mu.RUnlock()
	switch {
	case known:
		return value
	case full:
		return other
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[string]struct{}{}
	}
	if _, known = f.seen[value]; !known {
		if len(f.seen) >= most {
			return other
		}
		f.seen[value] = struct{}{}
	}
	return value
}

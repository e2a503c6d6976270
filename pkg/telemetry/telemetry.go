// Package telemetry measures the app and exports what it measures, by OpenTelemetry: metrics and traces.
//
//	               ┌─► prometheus, which asks (Handler)
//	instruments ───┼─► otlp      each minute ─┐
//	               ├─► statsd    each 10 s    ├─► sent in the background, one goroutine each
//	               └─► influx    each 10 s ─► outbox, oldest dropped ┤
//	spans ─► sampler ─► queue, newest dropped ─► otlp ───────────────┘
//
// It promises that no caller waits: measuring is a few atomic operations, every queue is bounded, what is dropped is
// counted by exporter and exported (telemetry_dropped_total), and Close takes no longer than its context. An exporter's
// failures are logged once a minute at most.
//
// Each exporter is a folder of its own, which can be removed together with its lines in options.go.
//
// No value that a client chooses becomes a label. The table in this package (Metrics) is all that there is to export.
//
// With nothing switched on there is no Telemetry: New returns nil, and all methods of a nil *Telemetry do nothing, so
// callers never ask.
//
// It does not export logs, and takes no part in requests and events beyond measuring them.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	otelruntime "go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracesnoop "go.opentelemetry.io/otel/trace/noop"

	"example.com/base-app/pkg/telemetry/export"
	"example.com/base-app/pkg/warnlimit"
)

// Budget is what Close needs at most: the time that a shutdown leaves for a collector that doesn't answer.
const Budget = 5 * time.Second

const scope = "example.com/base-app/pkg/telemetry"

// Telemetry owns the exporters. Its methods may be called from any goroutine, and on nil.
type Telemetry struct {
	app      string
	meters   *sdkmetric.MeterProvider // nil: no metrics are on
	traces   *sdktrace.TracerProvider // nil: no traces are on
	tracer   trace.Tracer             // nil: no traces are on
	meter    metric.Meter             // of the real provider, or one that does nothing
	core     export.Core              // what the exporters attached themselves to; only read once it is made
	mistakes *warnlimit.Limiter       // of the program's own, in what it measures
	closing  atomic.Bool
	ending   sync.WaitGroup // what Close began, and may not have waited for

	instruments
	server serverLabels
	client clientLabels
	zmq    endpoints
	struck few // fault points
}

// New makes what o switches on, and returns nil if that is nothing. It does not block: connections are made in the
// background. Its errors are of fault.KindConfig and name each setting that is wrong. What it returns must be closed.
//
// OpenTelemetry has one handler of errors for the whole process: New sets it, so that nothing is printed.
func New(o Options) (*Telemetry, error) {
	on, err := o.check()
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Telemetry{app: o.App, mistakes: export.NewWarnings(o.Log, "observe"), meter: noop.NewMeterProvider().Meter(scope),
		core: export.Core{Log: o.Log, Resource: describe(o),
			Tags: [][2]string{{"app", o.App}, {"device", o.Device}, {"deployment", o.Deployment}, {"version", o.Version}}}}
	for _, e := range on {
		if err == nil {
			err = e.Open(&t.core)
		}
	}
	if err == nil && len(t.core.Readers) == 0 && len(t.core.Traces) == 0 {
		return nil, nil
	}
	sdk := export.NewWarnings(o.Log, "sdk")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { sdk.Failed(context.Background(), err) }))
	if err == nil {
		err = t.openProviders()
	}
	if err == nil {
		err = t.makeInstruments()
	}
	if err == nil {
		err = t.observeSelf(o)
	}
	if err != nil { // a fault of ours, not of a setting
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		return nil, errors.Join(err, t.Close(gone))
	}
	return t, nil
}

// check returns the exporters that are on. Its errors are of fault.KindConfig, name each setting that is wrong, and never hold
// its value.
func (o Options) check() (on []export.Exporter, err error) {
	var errs []error
	for _, e := range o.exporters() {
		is, err := e.Check()
		if err != nil {
			errs = append(errs, err)
		}
		if is {
			on = append(on, e)
		}
	}
	return on, errors.Join(errs...)
}

// describe is the resource: what is measured. An exporter's settings may add to it, and win.
func describe(o Options) []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.String("service.name", o.App), attribute.String("service.version", o.Version),
		attribute.String("service.instance.id", o.Device), attribute.String("host.name", o.Device)}
	if o.Commit != "" {
		list = append(list, attribute.String("vcs.ref.head.revision", o.Commit))
	}
	if o.Deployment != "" {
		list = append(list, attribute.String("deployment.id", o.Deployment))
	}
	return list
}

// openProviders makes the providers of what the exporters want.
func (t *Telemetry) openProviders() error {
	r, err := resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(t.core.Resource...))
	if err != nil {
		return fmt.Errorf("telemetry: resource: %w", err)
	}
	if len(t.core.Traces) > 0 {
		t.traces = sdktrace.NewTracerProvider(append(t.core.Traces, sdktrace.WithResource(r))...)
		t.tracer = t.traces.Tracer(scope)
	}
	if len(t.core.Readers) == 0 {
		return nil
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(r)}
	for _, reader := range t.core.Readers {
		options = append(options, sdkmetric.WithReader(reader))
	}
	t.meters = sdkmetric.NewMeterProvider(options...)
	t.meter = t.meters.Meter(scope)
	return otelruntime.Start(otelruntime.WithMeterProvider(t.meters))
}

// Close sends what is left, to all exporters at once, and ends them. It returns when that is done or ctx ends; what was
// not sent then is lost. Later calls of other methods do nothing that is seen. Only the first call acts; a later one
// returns at once, also while the first waits: a forced end must not wait for a collector.
func (t *Telemetry) Close(ctx context.Context) error {
	if t == nil || !t.closing.CompareAndSwap(false, true) {
		return nil
	}
	return t.close(ctx)
}

func (t *Telemetry) close(ctx context.Context) error {
	errs := make(chan error, len(t.core.Closers))
	for _, closer := range t.core.Closers {
		t.ending.Go(func() { errs <- closer(ctx) })
	}
	var all []error
	for range t.core.Closers {
		select {
		case err := <-errs:
			all = append(all, err)
		case <-ctx.Done():
			return errors.Join(append(all, context.Cause(ctx))...)
		}
	}
	return errors.Join(all...)
}

// Handler answers who asks for metrics, and is nil if nobody does.
func (t *Telemetry) Handler() http.Handler {
	if t == nil {
		return nil
	}
	return t.core.Handler
}

// Tracers returns OpenTelemetry's provider for libraries that trace what they do; it does nothing while traces are off.
func (t *Telemetry) Tracers() trace.TracerProvider {
	if t == nil || t.traces == nil {
		return tracesnoop.NewTracerProvider()
	}
	return t.traces
}

// Meters returns OpenTelemetry's provider for libraries that measure what they do, and for a fork's own metrics; it does nothing
// while metrics are off.
func (t *Telemetry) Meters() metric.MeterProvider {
	if t == nil || t.meters == nil {
		return noop.NewMeterProvider()
	}
	return t.meters
}

type contextKey struct{}

// NewContext returns a context that carries t, for workers to find it.
func NewContext(ctx context.Context, t *Telemetry) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, contextKey{}, t)
}

// FromContext returns the Telemetry that ctx carries, nil if none.
func FromContext(ctx context.Context) *Telemetry {
	t, _ := ctx.Value(contextKey{}).(*Telemetry)
	return t
}

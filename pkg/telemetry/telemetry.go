// Package telemetry measures the app and exports what it measures: metrics for Prometheus, OTLP, StatsD and InfluxDB, and traces
// over OTLP, by OpenTelemetry.
//
//	               ┌─► Prometheus, which asks (Handler)
//	instruments ───┼─► OTLP      each minute ─┐
//	               ├─► StatsD    each 10 s    ├─► sent in the background, one goroutine each
//	               └─► InfluxDB  each 10 s ─► lines, oldest dropped ─┤
//	spans ─► sampler ─► queue, newest dropped ─► OTLP ───────────────┘
//
// It promises that no caller waits: measuring is a few atomic operations, every queue is bounded, what is dropped is
// counted by exporter and exported (telemetry_dropped_total), and Close takes no longer than its context. An exporter's
// failures are logged once a minute at most.
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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelruntime "go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.com/base-app/pkg/warnlimit"
)

const (
	// Budget is what Close needs at most: the time that a shutdown leaves for a collector that doesn't answer.
	Budget = 5 * time.Second
	// pushInterval is how often StatsD and InfluxDB are sent to; StatsD's own flush interval.
	pushInterval = 10 * time.Second
	// exportTime bounds one export, the sources' answers included.
	exportTime = 10 * time.Second
	// Prometheus scrapes need milliseconds; more at once than two servers is a mistake.
	scrapeTime  = 10 * time.Second
	scrapesMost = 4
)

const scope = "example.com/base-app/pkg/telemetry"

// Telemetry owns the exporters. Its methods may be called from any goroutine, and on nil.
type Telemetry struct {
	app      string
	meters   *sdkmetric.MeterProvider      // nil: no metrics are on
	traces   *sdktrace.TracerProvider      // nil: no traces are on
	tracer   trace.Tracer                  // nil: no traces are on
	meter    metric.Meter                  // of the real provider, or one that does nothing
	registry *prometheus.Registry          // nil: no Prometheus
	log      *slog.Logger                  // of what goes wrong
	losses   []*loss                       // by exporter; added to while it is made
	mistakes *warnlimit.Limiter            // of the program's own, in what it measures
	closers  []func(context.Context) error // run at once by Close
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
	p, err := o.plan()
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	measured := o.Prometheus || o.StatsD != "" || p.influx != "" || p.metrics != ""
	if !measured && p.traces == "" {
		return nil, nil
	}
	t := &Telemetry{app: o.App, log: o.Log, mistakes: newWarnings(o.Log, "observe")}
	sdk := newWarnings(o.Log, "sdk")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { sdk.Failed(context.Background(), err) }))
	r, err := describe(o)
	if err != nil {
		return nil, wrong("OTEL_RESOURCE_ATTRIBUTES", "write name=value,name=value", "can't be used")
	}
	t.meter = noop.NewMeterProvider().Meter(scope)
	if p.traces != "" {
		if err := t.openTraces(p, r); err != nil {
			return nil, err
		}
	}
	if measured {
		err = t.openMetrics(o, p, r)
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

// describe makes the resource: what is measured. OTEL_RESOURCE_ATTRIBUTES adds to it, and OTEL_SERVICE_NAME wins.
func describe(o Options) (*resource.Resource, error) {
	ours := []attribute.KeyValue{attribute.String("service.name", o.App), attribute.String("service.version", o.Version),
		attribute.String("service.instance.id", o.Device), attribute.String("host.name", o.Device)}
	if o.Commit != "" {
		ours = append(ours, attribute.String("vcs.ref.head.revision", o.Commit))
	}
	if o.Deployment != "" {
		ours = append(ours, attribute.String("deployment.id", o.Deployment))
	}
	given, err := parseAttributes(o.OTel.ResourceAttributes)
	if err != nil {
		return nil, err
	}
	all := append(ours, given...)
	if o.OTel.ServiceName != "" {
		all = append(all, attribute.String("service.name", o.OTel.ServiceName))
	}
	return resource.New(context.Background(), resource.WithTelemetrySDK(), resource.WithAttributes(all...))
}

// openMetrics makes the meter provider and its readers.
func (t *Telemetry) openMetrics(o Options, p plan, r *resource.Resource) error {
	options := []sdkmetric.Option{sdkmetric.WithResource(r)}
	add := func(reader sdkmetric.Reader) {
		options = append(options, sdkmetric.WithReader(reader))
		t.closers = append(t.closers, reader.Shutdown)
	}
	push := func(e sdkmetric.Exporter, every time.Duration) {
		add(sdkmetric.NewPeriodicReader(e, sdkmetric.WithInterval(every), sdkmetric.WithTimeout(exportTime)))
	}
	if o.Prometheus {
		t.registry = prometheus.NewRegistry()
		reader, err := otelprometheus.New(otelprometheus.WithRegisterer(t.registry), otelprometheus.WithoutScopeInfo())
		if err != nil {
			return err
		}
		add(reader)
	}
	if p.metrics != "" {
		e, err := newOTLPMetrics(p, t.newLoss("otlp_metrics"))
		if err != nil {
			return err
		}
		push(e, p.interval)
	}
	tags := [][2]string{{"app", o.App}, {"device", o.Device}, {"deployment", o.Deployment}, {"version", o.Version}}
	if o.StatsD != "" {
		push(newStatsD(o.StatsD, tags, t.newLoss("statsd")), pushInterval)
	}
	if p.influx != "" {
		push(newInflux(p.influx, o.Influx.Token, tags, t.newLoss("influx")), pushInterval)
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
	errs := make(chan error, len(t.closers))
	for _, closer := range t.closers {
		t.ending.Go(func() { errs <- closer(ctx) })
	}
	var all []error
	for range t.closers {
		select {
		case err := <-errs:
			all = append(all, err)
		case <-ctx.Done():
			return errors.Join(append(all, context.Cause(ctx))...)
		}
	}
	return errors.Join(all...)
}

// Handler answers Prometheus, and is nil without it.
func (t *Telemetry) Handler() http.Handler {
	if t == nil || t.registry == nil {
		return nil
	}
	h := promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{newWarnings(t.log, "prometheus")}, ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapesMost, Timeout: scrapeTime, EnableOpenMetrics: true})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	return mux
}

// scrapeLog is promhttp's log.
type scrapeLog struct{ *warnlimit.Limiter }

// Println logs a failure.
func (l scrapeLog) Println(v ...any) {
	l.Failed(context.Background(), errors.New(fmt.Sprint(v...)))
}

// Tracers returns OpenTelemetry's provider for libraries that trace what they do; it does nothing while traces are off.
func (t *Telemetry) Tracers() trace.TracerProvider {
	if t == nil || t.traces == nil {
		return noopTracers
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

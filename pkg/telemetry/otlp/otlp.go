package otlp

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.com/base-app/pkg/telemetry/export"
)

// maxAnswer is what is read of an answer, which holds no more than what was refused; OpenTelemetry's own limit is 4 MiB.
const maxAnswer = 64 << 10

// openTraces attaches a sampler, a bounded queue and a client to c.
func (p plan) openTraces(c *export.Core) error {
	options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(p.traces), otlptracehttp.WithMaxResponseSize(maxAnswer)}
	if p.headers != nil {
		options = append(options, otlptracehttp.WithHeaders(p.headers))
	}
	client, err := otlptracehttp.New(context.Background(), options...)
	if err != nil {
		return err
	}
	room := &spanQueue{most: int64(p.queueSize), loss: c.NewLoss("otlp_traces"), next: client}
	room.life, room.end = context.WithCancel(context.Background())
	room.batch = sdktrace.NewBatchSpanProcessor(spanExporter{room}, sdktrace.WithMaxQueueSize(p.queueSize))
	c.Traces = append(c.Traces, sdktrace.WithSampler(p.sampler), sdktrace.WithSpanProcessor(room))
	c.Closers = append(c.Closers, room.Shutdown) // the provider would leave it alone if the context has ended
	return nil
}

// spanQueue bounds the spans that wait, so that OpenTelemetry's own queue, which drops without telling how much, never
// is full. It is a sdktrace.SpanProcessor.
type spanQueue struct {
	most    int64
	waiting atomic.Int64
	loss    *export.Loss
	batch   sdktrace.SpanProcessor
	next    sdktrace.SpanExporter
	life    context.Context // of all exports
	end     context.CancelFunc
}

// OnStart does nothing.
func (q *spanQueue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd queues a span, or drops it.
func (q *spanQueue) OnEnd(s sdktrace.ReadOnlySpan) {
	switch {
	case !s.SpanContext().IsSampled():
	case q.waiting.Add(1) > q.most:
		q.waiting.Add(-1)
		q.loss.Dropped.Add(1)
	default:
		q.batch.OnEnd(s)
	}
}

// ForceFlush sends what waits.
func (q *spanQueue) ForceFlush(ctx context.Context) error { return q.batch.ForceFlush(ctx) }

// Shutdown sends what waits, until ctx ends; the rest is lost. OpenTelemetry's processor would go on for half a minute with
// each batch: the end of its life makes it quick.
func (q *spanQueue) Shutdown(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- q.batch.Shutdown(context.WithoutCancel(ctx)) }()
	select {
	case err := <-ended:
		q.end()
		return err
	case <-ctx.Done():
		q.end()
		<-ended
		return context.Cause(ctx)
	}
}

// spanExporter counts what OTLP doesn't take.
type spanExporter struct{ *spanQueue }

// ExportSpans sends a batch. It keeps its errors for itself: they are counted and logged.
func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	err := e.next.ExportSpans(ctx, spans)
	e.waiting.Add(-int64(len(spans)))
	if err != nil {
		e.loss.Fail(err, len(spans))
		return nil
	}
	e.loss.Succeed()
	return nil
}

// Shutdown ends the connection.
func (e spanExporter) Shutdown(ctx context.Context) error { return e.next.Shutdown(ctx) }

// metricExporter counts what OTLP doesn't take.
type metricExporter struct {
	sdkmetric.Exporter
	loss *export.Loss
}

func newMetrics(p plan, l *export.Loss) (sdkmetric.Exporter, error) {
	options := []otlpmetrichttp.Option{otlpmetrichttp.WithEndpointURL(p.metrics), otlpmetrichttp.WithMaxResponseSize(maxAnswer)}
	if p.headers != nil {
		options = append(options, otlpmetrichttp.WithHeaders(p.headers))
	}
	e, err := otlpmetrichttp.New(context.Background(), options...)
	return metricExporter{e, l}, err
}

// Export sends a snapshot. It keeps its errors for itself: they are counted and logged.
func (e metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	if err := e.Exporter.Export(ctx, m); err != nil {
		e.loss.Fail(err, export.Count(m))
		return nil
	}
	e.loss.Succeed()
	return nil
}

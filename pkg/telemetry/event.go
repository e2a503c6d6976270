package telemetry

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/text"
)

// One event's trace, across processes and however often it comes again; each span is the parent of the next:
//
//	POST /events ─► publish ─► deliver ─► send app-relay ─► send app-worker ─► handle
//
// The envelope carries the trace from one to the next. A batch is one publish span of one trace, with a link to each other trace
// that its events came from.

const (
	// maxLinks is OpenTelemetry's own limit: https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-limits.
	maxLinks = 128
	// maxStatus bounds a span's error, in bytes: enough for a chain of causes. Some errors quote a whole answer.
	maxStatus = 1 << 10
)

// Outcome is what became of an event that was handled.
type Outcome string

// The outcomes.
const (
	Processed   Outcome = "processed"
	Retried     Outcome = "retried"
	Dead        Outcome = "dead"
	Interrupted Outcome = "interrupted" // by the shutdown: it comes again
)

var outcomes = func() map[Outcome][]metric.RecordOption {
	all := map[Outcome][]metric.RecordOption{}
	for _, o := range []Outcome{Processed, Retried, Dead, Interrupted} {
		all[o] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attribute.String("outcome", string(o))))}
	}
	return all
}()

// nothing is the no-op that is returned when telemetry is off.
func nothing(error) {}

// Publish begins the publication of events in ctx. It returns the events to publish, which carry the trace on. The caller calls
// end once, with the publication's error and, if it was one event, with its id.
func (t *Telemetry) Publish(ctx context.Context, events []event.Event) (_ []event.Event, end func(id string, err error)) {
	if t == nil {
		return events, func(string, error) {}
	}
	began := time.Now()
	var span trace.Span
	if t.tracer != nil {
		if !trace.SpanContextFromContext(ctx).IsValid() && len(events) == 1 {
			ctx = extract(ctx, &events[0]) // of an event that was not posted, or was replayed
		}
		ctx, span = t.tracer.Start(ctx, "publish events", trace.WithSpanKind(trace.SpanKindProducer))
		if span.IsRecording() {
			span.SetAttributes(attribute.String("messaging.operation.type", "send"), attribute.Int("messaging.batch.message_count", len(events)))
			link(span, events)
		}
		parent := traceParent(span.SpanContext())
		events = slices.Clone(events) // they are the caller's
		for i := range events {
			events[i].TraceParent = parent
		}
	}
	return events, func(id string, err error) {
		if err == nil {
			t.publishing.Record(ctx, time.Since(began).Seconds())
		}
		if span != nil && id != "" {
			span.SetAttributes(attribute.String("messaging.message.id", id))
		}
		endSpan(span, err)
	}
}

// Deliver adds to the trace of e that it came from the queue.
func (t *Telemetry) Deliver(ctx context.Context, e *event.Event) {
	if !t.follows(e) {
		return
	}
	_, span := t.tracer.Start(extract(ctx, e), "deliver event", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.operation.type", "receive"), attribute.String("messaging.message.id", e.ID),
		attribute.Int64("event.sequence", int64(e.Sequence)), attribute.Int64("event.delivery", int64(e.Delivery)),
		attribute.Float64("event.age_seconds", time.Since(e.Time).Seconds())))
	e.TraceParent = traceParent(span.SpanContext())
	span.End()
}

// Send begins the hop of e to a ZeroMQ endpoint. If it returns true, e carries the new span and must be encoded anew. The caller
// calls end once, with the error of the socket's Send: the span's time is what the socket took.
func (t *Telemetry) Send(ctx context.Context, e *event.Event, endpoint string) (changed bool, end func(error)) {
	if !t.follows(e) {
		return false, nothing
	}
	_, span := t.tracer.Start(extract(ctx, e), "send "+strings.TrimPrefix(endpoint, "inproc://"),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
			attribute.String("messaging.system", "zeromq"), attribute.String("messaging.destination.name", endpoint),
			attribute.String("messaging.message.id", e.ID)))
	e.TraceParent = traceParent(span.SpanContext())
	return true, func(err error) { endSpan(span, err) }
}

// Handle begins the handling of e. The context is for the handler: it carries the span, the baggage, and the ids for the
// log. Call end once, with what became of e and why.
func (t *Telemetry) Handle(ctx context.Context, e *event.Event) (_ context.Context, end func(Outcome, error)) {
	if t == nil {
		return ctx, func(Outcome, error) {}
	}
	began := time.Now()
	if e.Delivery <= 1 && !e.Time.IsZero() {
		t.waiting.Record(ctx, max(0, began.Sub(e.Time)).Seconds())
	}
	var span trace.Span
	if t.tracer != nil {
		ctx, span = t.tracer.Start(extract(ctx, e), "handle event", trace.WithSpanKind(trace.SpanKindConsumer))
		if span.IsRecording() {
			span.SetAttributes(attribute.String("messaging.operation.type", "process"), attribute.String("messaging.message.id", e.ID),
				attribute.Int64("event.sequence", int64(e.Sequence)), attribute.Int64("event.delivery", int64(e.Delivery)),
				attribute.Int("messaging.message.body.size", len(e.Body)), attribute.String("request_id", e.RequestID))
		}
		ctx = withIDs(ctx, span)
	}
	return ctx, func(o Outcome, err error) {
		t.handling.Record(ctx, time.Since(began).Seconds(), outcomes[o]...)
		if err != nil && o != Interrupted {
			t.Exception(ctx, "handler", err)
		}
		if span != nil {
			span.SetAttributes(attribute.String("event.outcome", string(o)))
		}
		endSpan(span, err)
	}
}

// Exception counts an error that was not handled: where it came up (web, worker, handler) and of which kind it is.
func (t *Telemetry) Exception(ctx context.Context, where string, err error) {
	if t != nil {
		kind := fault.Of(err).String()
		t.exceptions.Add(ctx, 1, metric.WithAttributeSet(attribute.NewSet(attribute.String("where", where), attribute.String("kind", kind))))
	}
}

// Strike counts what an order of pkg/chaos did at a fault point. The first 64 points have a label of their own.
func (t *Telemetry) Strike(point, kind string) {
	if t != nil {
		set := attribute.NewSet(attribute.String("point", t.struck.admit(point)), attribute.String("kind", kind))
		t.strikes.Add(context.Background(), 1, metric.WithAttributeSet(set))
	}
}

// follows returns whether more spans shall be made for e: its trace was chosen when it was published.
func (t *Telemetry) follows(e *event.Event) bool {
	return t != nil && t.tracer != nil && event.ValidTraceParent(e.TraceParent) && sampled(e.TraceParent)
}

// sampled reads the flags of a traceparent, its last two hexadecimal digits: the last bit is set if the trace was chosen.
func sampled(traceParent string) bool {
	return strings.IndexByte("13579bdf", traceParent[len(traceParent)-1]) >= 0
}

// envelope lets the propagator read an event like headers.
type envelope struct{ e *event.Event }

// Get returns a header.
func (c envelope) Get(key string) string {
	switch key {
	case "traceparent":
		return c.e.TraceParent
	case "baggage":
		return c.e.Baggage
	}
	return ""
}

// Set does nothing: only a span's context is carried on, by traceParent.
func (c envelope) Set(string, string) {}

// Keys names what there may be.
func (c envelope) Keys() []string { return []string{"traceparent", "baggage"} }

func extract(ctx context.Context, e *event.Event) context.Context {
	return propagator.Extract(ctx, propagation.TextMapCarrier(envelope{e}))
}

// traceParent writes W3C Trace Context, version 0: https://www.w3.org/TR/trace-context/#traceparent-header.
func traceParent(c trace.SpanContext) string {
	if !c.IsValid() {
		return ""
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + c.TraceFlags().String()
}

// link adds to span a link to each other trace that the events came from, the first 128 of them.
func link(span trace.Span, events []event.Event) {
	ours := span.SpanContext().TraceID()
	seen := map[string]bool{}
	for i := range events {
		from := events[i].TraceParent
		if from == "" || seen[from] || !event.ValidTraceParent(from) {
			continue
		}
		if len(seen) == maxLinks {
			return
		}
		c := trace.SpanContextFromContext(extract(context.Background(), &events[i]))
		if c.IsValid() && c.TraceID() != ours {
			seen[from] = true
			span.AddLink(trace.Link{SpanContext: c})
		}
	}
}

func endSpan(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil && span.IsRecording() {
		span.SetAttributes(attribute.String("error.type", fault.Of(err).String()))
		span.SetStatus(codes.Error, text.Ellipsis(dependency.Scrub(err.Error()), maxStatus))
	}
	span.End()
}

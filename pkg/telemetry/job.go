package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Job begins a run of the app's job called name, a trace of its own. The context is for the job: it carries the span, and
// the ids for the log. Call end once, with what became of the run and why. A job's name is a label: schedule.Scheduler
// bounds their number.
func (t *Telemetry) Job(ctx context.Context, name, run string) (_ context.Context, end func(outcome string, err error)) {
	if t == nil {
		return ctx, func(string, error) {}
	}
	began := time.Now()
	var span trace.Span
	if t.tracer != nil {
		ctx, span = t.tracer.Start(ctx, "job "+name, trace.WithNewRoot(), trace.WithAttributes(
			attribute.String("job.name", name), attribute.String("job.run_id", run)))
		ctx = withIDs(ctx, span)
	}
	return ctx, func(outcome string, err error) {
		t.job.Record(ctx, time.Since(began).Seconds(), metric.WithAttributeSet(attribute.NewSet(attribute.String("job", name))))
		if span != nil {
			span.SetAttributes(attribute.String("job.outcome", outcome))
		}
		endSpan(span, err)
	}
}

package main

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const scope = "example.com/base-app/examples/demo/service2"

// begin begins a span within the span of ctx; it does nothing if there is none.
func begin(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(scope).Start(ctx, name, o...)
}

// end ends a span. The span has no text of the error: that is in the log, under the same id.
func end(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// statements makes a span of each statement. It is a pgx.QueryTracer.
// Source of the names: https://opentelemetry.io/docs/specs/semconv/database/
type statements struct{}

// TraceQueryStart begins the span. The statement's text has no values: those are parameters.
func (statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	operation, _, _ := strings.Cut(q.SQL, " ")
	ctx, _ = begin(ctx, operation+" users", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("db.system.name", "postgresql"), attribute.String("db.operation.name", operation),
		attribute.String("db.collection.name", "users"), attribute.String("db.query.text", q.SQL)))
	return ctx
}

// TraceQueryEnd ends it.
func (statements) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryEndData) {
	end(trace.SpanFromContext(ctx), q.Err)
}

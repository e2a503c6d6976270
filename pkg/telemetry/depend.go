package telemetry

import (
	"context"
	"errors"
	"time"

	"example.com/base-app/pkg/dependency"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Dependencies is the observer for dependency.Options: it measures tries, and counts what is refused and how breakers change.
// Nil while there is nothing to measure. A dependency's name is a label: dependency.Registry bounds their number.
func (t *Telemetry) Dependencies() dependency.Observer {
	if t == nil {
		return nil
	}
	return dependencies{t}
}

type dependencies struct{ t *Telemetry }

// Try measures a try, or counts a refusal.
func (d dependencies) Try(ctx context.Context, name string, took time.Duration, err error) {
	if reason := refusal(err); reason != "" {
		d.t.refused.Add(ctx, 1, about(name, "reason", reason))
		return
	}
	outcome := "done"
	switch {
	case errors.Is(err, context.Canceled):
		outcome = "cancelled"
	case err != nil:
		outcome = "failed"
	}
	d.t.dependencyTry.Record(ctx, took.Seconds(), about(name, "outcome", outcome))
}

// Breaker counts a change.
func (d dependencies) Breaker(name string, state dependency.Breaker) {
	d.t.breaker.Add(context.Background(), 1, about(name, "state", string(state)))
}

// refusal is why a try was not let through, empty if it was.
func refusal(err error) string {
	switch err {
	case dependency.ErrOpen:
		return "open"
	case dependency.ErrBusy:
		return "busy"
	case dependency.ErrRate:
		return "rate"
	}
	return ""
}

func about(name, key, value string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("dependency", name), attribute.String(key, value)))
}

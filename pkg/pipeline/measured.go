package pipeline

import (
	"context"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
	"example.com/base-app/pkg/telemetry"
)

// measured is the queue, with what it accepts and delivers in the metrics, and each event's trace carried on.
type measured struct {
	*queue.Queue
	telemetry *telemetry.Telemetry
}

// Publish is queue.Queue's, within the trace of ctx.
func (q measured) Publish(ctx context.Context, events ...event.Event) ([]queue.Accepted, error) {
	events, end := q.telemetry.Publish(ctx, events)
	answers, err := q.Queue.Publish(ctx, events...)
	id := ""
	if len(answers) == 1 {
		id = answers[0].ID
	}
	end(id, err)
	return answers, err
}

// Next is queue.Queue's; the event carries its trace on.
func (q measured) Next(ctx context.Context) (event.Event, error) {
	e, err := q.Queue.Next(ctx)
	if err == nil {
		q.telemetry.Deliver(ctx, &e)
	}
	return e, err
}

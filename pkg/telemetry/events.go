package telemetry

import (
	"context"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

// Events is the queue as the app sees it: what it takes and gives is measured, and its traces go on.
type Events struct {
	*queue.Queue
	telemetry *Telemetry
}

// Events returns q with its events measured, also if t is nil.
func (t *Telemetry) Events(q *queue.Queue) *Events { return &Events{q, t} }

// Publish is queue.Queue's, within the trace of ctx.
func (q *Events) Publish(ctx context.Context, events ...event.Event) ([]queue.Accepted, error) {
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
func (q *Events) Next(ctx context.Context) (event.Event, error) {
	e, err := q.Queue.Next(ctx)
	if err == nil {
		q.telemetry.Deliver(ctx, &e)
	}
	return e, err
}

package main

import (
	"context"
	"errors"
	"log/slog"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/telemetry"
	"example.com/base-app/pkg/zmq"
)

// The sockets between the workers. Who receives binds, who sends connects; in which order they start doesn't matter.
const (
	toRelay     = "inproc://app-relay"
	toProcessor = "inproc://app-worker"
)

// source is where the reader gets its events: the queue.
type source interface {
	Next(context.Context) (event.Event, error)
}

// reader takes events from the queue and sends them on their way.
type reader struct {
	zmq    *zmq.Context
	events source
	log    *slog.Logger
}

func (r reader) run(ctx context.Context) (err error) {
	out, err := r.zmq.Connect(ctx, zmq.Push, toRelay)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	trace := telemetry.FromContext(ctx)
	var wire []byte
	for {
		e, err := r.events.Next(ctx)
		if err != nil {
			return err
		}
		r.log.DebugContext(ctx, "event read", "id", e.ID, "sequence", e.Sequence, "delivery", e.Delivery)
		_, sent := trace.Send(ctx, &e, toRelay)
		wire = e.Append(wire[:0])
		err = out.Send(ctx, wire)
		if sent(err); err != nil {
			return err
		}
	}
}
